// The tick in a table's head ticks every row; it shows by itself whether all, some or none are ticked.

/** @param {Element} form */
function show(form) {
  const every = /** @type {HTMLInputElement | null} */ (form.querySelector("[data-tick-all]"));
  const ticks = /** @type {HTMLInputElement[]} */ ([...form.querySelectorAll(".tick")]);
  if (!every) return;
  const count = ticks.filter((tick) => tick.checked).length;
  every.checked = count > 0 && count === ticks.length;
  every.indeterminate = count > 0 && count < ticks.length;
}

document.addEventListener("change", (event) => {
  const field = event.target;
  if (!(field instanceof HTMLInputElement) || !field.form) return;
  if (field.hasAttribute("data-tick-all")) {
    for (const tick of field.form.querySelectorAll(".tick")) /** @type {HTMLInputElement} */ (tick).checked = field.checked;
  } else if (!field.classList.contains("tick")) return;
  show(field.form);
});

/** What was to be done is done. @param {Element} form */
export function clear(form) {
  for (const tick of form.querySelectorAll(".tick")) /** @type {HTMLInputElement} */ (tick).checked = false;
  show(form);
}
