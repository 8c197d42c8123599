// Runs before anything is painted: the theme that was chosen here, and the addresses that SDKs print, whose path is
// behind the "#" and so never reaches the server.
(function () {
  "use strict";
  var theme = null;
  try { theme = localStorage.getItem("theme"); } catch (error) { /* storage may be forbidden: the system's theme stands */ }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;

  var pages = [
    [/^#\/runs\/details\/([^/?]+)/, "/runs/$1"],
    [/^#\/runs\/?(?:\?.*)?$/, "/runs"],
    [/^#\/experiments\/details\/([^/?]+)/, "/runs?experiment=$1"],
    [/^#\/experiments\/?(?:\?.*)?$/, "/runs"],
    [/^#\/pipelines\/details\/([^/?]+)/, "/runs?pipeline=$1"],
    [/^#\/pipelines\/?(?:\?.*)?$/, "/runs"]
  ];
  function follow() {
    // The central dashboard of upstream puts its own prefix before the page's: /_/pipeline/?ns=x#/runs/details/id
    var hash = location.hash.replace(/^#\/?_\/pipeline\/?#?/, "#");
    for (var i = 0; i < pages.length; i++) {
      var match = pages[i][0].exec(hash);
      if (match) {
        var target = pages[i][1].replace("$1", encodeURIComponent(decodeURIComponent(match[1] || "")));
        var ns = new URLSearchParams(location.search).get("ns");
        if (ns) target += (target.indexOf("?") < 0 ? "?" : "&") + "ns=" + encodeURIComponent(ns);
        location.replace(target);
        return;
      }
    }
  }
  follow();
  addEventListener("hashchange", follow);
})();
