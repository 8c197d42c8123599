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
    [/^#\/experiments\/?(?:\?.*)?$/, "/experiments"],
    [/^#\/pipelines\/details\/([^/?]+)(?:\/version\/([^/?]+))/, "/pipelines/$1?version=$2"],
    [/^#\/pipelines\/details\/([^/?]+)/, "/pipelines/$1"],
    [/^#\/(?:shared\/)?pipelines\/?(?:\?.*)?$/, "/pipelines"],
    [/^#\/pipeline_versions\/new\/?(?:\?.*)?$/, "/pipelines/new"],
    [/^#\/recurringruns?(?:\/details\/[^/?]+)?\/?(?:\?.*)?$/, "/schedules"],
    [/^#\/runs\/new\/?(?:\?.*)?$/, "/runs/new"],
    [/^#\/archive\/experiments\/?(?:\?.*)?$/, "/experiments?archived=yes"],
    [/^#\/artifacts?\/([^/?]+)\/?(?:\?.*)?$/, "/artifacts/$1"],
    [/^#\/artifacts\/?(?:\?.*)?$/, "/artifacts"]
  ];
  function follow() {
    // The central dashboard of upstream puts its own prefix before the page's: /_/pipeline/?ns=x#/runs/details/id
    var hash = location.hash.replace(/^#\/?_\/pipeline\/?#?/, "#");
    for (var i = 0; i < pages.length; i++) {
      var match = pages[i][0].exec(hash);
      if (match) {
        var target = pages[i][1];
        for (var part = 1; part <= 2; part++) {
          target = target.replace("$" + part, encodeURIComponent(decodeURIComponent(match[part] || "")));
        }
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
