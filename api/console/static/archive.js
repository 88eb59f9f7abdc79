// Ticking, short links, and parts of a page that follow what happens. Without it the pages work as forms and links.
(function () {
  "use strict";

  // The script is at the end of the page, so that all it looks for is there.
  document.documentElement.classList.add("has-script");

  var FASTEST_MS = 1000;
  // A run that makes progress, or ends after its task, is no transition of a task: it is looked for.
  var AGAIN_MS = 2000;

  function all(selector, within) {
    return Array.prototype.slice.call((within || document).querySelectorAll(selector));
  }

  // ---- ticking

  var choosing = document.querySelector("[data-archive-choose]");

  function boxes() {
    return all('input[name="selected"]', choosing);
  }

  function tell() {
    var ticked = boxes().filter(function (box) { return box.checked; }).length;
    var isAll = choosing.querySelector('input[name="which"][value="all"]:checked') !== null;
    all("[data-archive-ticked]").forEach(function (place) { place.textContent = ticked; });
    all('button[name="action"]', choosing).forEach(function (button) { button.disabled = !isAll && ticked === 0; });
    all("[data-archive-tick-all]").forEach(function (box) {
      box.checked = ticked > 0 && ticked === boxes().length;
      box.indeterminate = ticked > 0 && ticked < boxes().length;
    });
  }

  if (choosing) {
    choosing.addEventListener("change", function (event) {
      if (event.target.matches("[data-archive-tick-all]")) {
        boxes().forEach(function (box) { box.checked = event.target.checked; });
      }
      if (event.target.name === "selected" || event.target.matches("[data-archive-tick-all]")) {
        var some = choosing.querySelector('input[name="which"][value="selected"]');
        if (some) { some.checked = true; }
      }
      tell();
    });
    choosing.addEventListener("submit", function () {
      // What is ticked is not meant when all that match are: it would only make the link long.
      if (choosing.querySelector('input[name="which"][value="all"]:checked')) {
        boxes().forEach(function (box) { box.disabled = true; });
      }
    });
    // Coming back by the browser's button: boxes may be ticked, and are enabled again.
    window.addEventListener("pageshow", function () {
      boxes().forEach(function (box) { box.disabled = false; });
      tell();
    });
    tell();
  }

  // ---- forms

  all("[data-archive-filters], [data-archive-target]").forEach(function (form) {
    form.addEventListener("submit", function () {
      all("input, select", form).forEach(function (field) { field.disabled = field.value === ""; });
    });
    form.addEventListener("change", function (event) {
      if (event.target.tagName === "SELECT") { form.requestSubmit(); }
    });
    window.addEventListener("pageshow", function () {
      all("input, select", form).forEach(function (field) { field.disabled = false; });
    });
  });

  all("[data-archive-once]").forEach(function (form) {
    form.addEventListener("submit", function () {
      all("button", form).forEach(function (button) { button.disabled = true; });
    });
  });

  // ---- live parts

  all("[data-archive-live]").forEach(function (sign) {
    var into = document.getElementById(sign.dataset.archiveInto);
    var timer = null, stream = null, asked = false, busy = false, wasLive = false;

    function show(isLive, text) {
      sign.querySelector(".status-dot").classList.toggle("status-dot-live", isLive);
      sign.querySelector("[data-archive-live-text]").textContent = text;
    }

    function put(html) {
      var ticked = boxes().filter(function (box) { return box.checked; }).map(function (box) { return box.value; });
      var which = document.querySelector('input[name="which"]:checked');
      into.innerHTML = html;
      boxes().forEach(function (box) { box.checked = ticked.indexOf(box.value) >= 0; });
      var same = which && document.querySelector('input[name="which"][value="' + which.value + '"]');
      if (same) { same.checked = true; }
      if (choosing) { tell(); }
      lookAgain();
    }

    function lookAgain() {
      window.clearTimeout(timer);
      if (into.querySelector("[data-archive-again]") && !document.hidden) {
        timer = window.setTimeout(refresh, AGAIN_MS);
      }
    }

    function refresh() {
      if (busy) { asked = true; return; }
      busy = true;
      asked = false;
      var began = Date.now();
      fetch(window.location.href, { headers: { "X-Archive-Part": "1" }, credentials: "same-origin" })
        .then(function (answer) {
          if (!answer.ok) { throw new Error(answer.status); }
          return answer.text();
        })
        .then(put)
        .catch(function () { show(false, "Not live"); })
        .then(function () {
          // A slow database is not asked more often than it can answer.
          window.setTimeout(function () {
            busy = false;
            if (asked) { refresh(); }
          }, Math.max(FASTEST_MS, 3 * (Date.now() - began)));
        });
    }

    function follow() {
      if (document.hidden) {
        if (stream) { stream.close(); stream = null; }
        return;
      }
      if (stream) { return; }
      stream = new EventSource(sign.dataset.archiveLive);
      stream.onopen = function () {
        show(true, "Live");
        if (wasLive) { refresh(); } // what happened meanwhile was not heard
        wasLive = true;
      };
      stream.onerror = function () { show(false, "Not live"); };
      stream.addEventListener("changed", refresh);
    }

    document.addEventListener("visibilitychange", function () { follow(); lookAgain(); });
    window.addEventListener("pagehide", function () { if (stream) { stream.close(); stream = null; } });
    window.addEventListener("pageshow", follow);
    follow();
    lookAgain();
  });
}());
