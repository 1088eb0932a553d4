"use strict";
(function () {
  function axis(text) {
    var p = text.split(" ");
    return { s: p[0], a: +p[1], b: +p[2], p: +p[3], q: +p[4] };
  }
  function value(ax, at) {
    var t = ax.a + ((at - ax.p) / (ax.q - ax.p)) * (ax.b - ax.a);
    return ax.s === "log" ? Math.pow(10, t) : ax.s === "tail" ? 100 * (1 - Math.pow(10, -t)) : t;
  }
  function show(v) {
    if (Math.abs(v) < 1e-9) { return "0"; }
    var digits = Math.abs(v) >= 99 && Math.abs(v) < 100 ? 5 : 3;
    return String(+v.toPrecision(Math.abs(v) >= 1000 ? 4 : digits));
  }
  document.querySelectorAll(".chart svg").forEach(function (svg) {
    var ax = axis(svg.dataset.x), ay = axis(svg.dataset.y), lines = null, tip = null, rule = null;
    function read() {
      lines = Array.prototype.map.call(svg.querySelectorAll("path[data-name]"), function (path) {
        var n = (path.getAttribute("d").match(/-?[\d.]+ -?[\d.]+/g) || []).map(function (pair) {
          return pair.split(" ").map(Number);
        });
        return { name: path.dataset.name, dots: path.classList.contains("dots"), points: n };
      });
      tip = document.createElement("div");
      tip.className = "tip";
      svg.parentNode.appendChild(tip);
      rule = document.createElementNS("http://www.w3.org/2000/svg", "path");
      rule.setAttribute("class", "rule");
      svg.appendChild(rule);
    }
    function leave() {
      if (tip) { tip.style.display = "none"; rule.style.display = "none"; }
    }
    svg.addEventListener("pointermove", function (event) {
      if (!lines) { read(); }
      var box = svg.getBoundingClientRect(), scale = 560 / box.width;
      var x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      var rows = [], at = null, best = Infinity;
      lines.forEach(function (line) {
        var near = null, least = Infinity;
        line.points.forEach(function (point) {
          var d = Math.abs(point[0] - x) + (line.dots ? Math.abs(point[1] - y) : 0);
          if (d < least) { least = d; near = point; }
        });
        if (!near || least > 40) { return; }
        if (least < best) { best = least; at = near[0]; }
        rows.push(line.name + ": " + (line.dots || lines.length > 1 ? show(value(ax, near[0])) + " → " : "") + show(value(ay, near[1])));
      });
      if (at === null) { leave(); return; }
      tip.textContent = (lines.length === 1 ? show(value(ax, at)) + " → " : "") + rows.join("\n");
      tip.style.display = rule.style.display = "block";
      rule.setAttribute("d", "M" + at + " " + ay.q + "V" + ay.p);
      var left = box.left - svg.parentNode.getBoundingClientRect().left;
      tip.style.top = (event.clientY - svg.parentNode.getBoundingClientRect().top + 14) + "px";
      var wide = tip.offsetWidth, room = svg.parentNode.clientWidth;
      tip.style.left = Math.max(0, Math.min(at / scale + left + 14, room - wide - 4)) + "px";
    });
    svg.addEventListener("pointerleave", leave);
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
})();
