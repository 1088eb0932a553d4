"use strict";
(function () {
  var zh = document.getElementById("in-zh");
  function speak() { document.documentElement.lang = zh.checked ? "zh-CN" : "en"; }
  function text(element, name) {
    var other = element.getAttribute("data-" + name + "-zh");
    return zh.checked && other !== null ? other : element.getAttribute("data-" + name) || "";
  }
  function unit(value, name) { return name ? value + " " + name : value; }
  function read(svg) {
    return Array.prototype.map.call(svg.querySelectorAll("path[data-v]"), function (path) {
      var values = path.getAttribute("data-v").split(";"), i = 0, points = [], pair;
      var pattern = /[ML](-?[\d.]+) (-?[\d.]+)/g, d = path.getAttribute("d");
      while ((pair = pattern.exec(d)) !== null) {
        var v = values[i++].split("|");
        points.push({ px: +pair[1], py: +pair[2], x: v[0], y: v[1], label: v[2] });
      }
      return { path: path, dots: path.classList.contains("dots"), points: points };
    });
  }
  document.querySelectorAll(".chart svg").forEach(function (svg) {
    var lines = null, tip = null, rule = null;
    function prepare() {
      lines = read(svg);
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
    function nearest(line, x, y) {
      var near = null, least = 40;
      line.points.forEach(function (point) {
        var d = Math.abs(point.px - x) + (line.dots ? Math.abs(point.py - y) : 0);
        if (d < least) { least = d; near = point; }
      });
      return near && { line: line, point: near, far: least };
    }
    svg.addEventListener("pointermove", function (event) {
      if (!lines) { prepare(); }
      var box = svg.getBoundingClientRect(), scale = 560 / box.width;
      var x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      var found = lines.map(function (line) { return nearest(line, x, y); }).filter(Boolean);
      if (!found.length) { leave(); return; }
      var best = found.reduce(function (a, b) { return b.far < a.far ? b : a; }).point;
      var name = text(svg, "x"), at = unit(best.x, text(svg, "xu"));
      var rows = [(name ? name + ": " : "") + at + (best.label ? " [" + best.label + "]" : "")];
      found.forEach(function (one) {
        var other = one.point.x === best.x ? "" : " (" + unit(one.point.x, text(svg, "xu")) + ")";
        rows.push(text(one.line.path, "name") + ": " + unit(one.point.y, text(svg, "yu")) + other);
      });
      svg.querySelectorAll("path[data-level]").forEach(function (path) { rows.push(path.getAttribute("data-level")); });
      tip.textContent = rows.join("\n");
      tip.style.display = rule.style.display = "block";
      rule.setAttribute("d", "M" + best.px + " 12V244");
      var outer = svg.parentNode.getBoundingClientRect(), room = svg.parentNode.clientWidth;
      tip.style.top = (event.clientY - outer.top + 14) + "px";
      tip.style.left = Math.max(0, Math.min(best.px / scale + box.left - outer.left + 14, room - tip.offsetWidth - 4)) + "px";
    });
    svg.addEventListener("pointerleave", leave);
  });
  document.querySelectorAll(".switch").forEach(function (input) { input.addEventListener("change", speak); });
  speak();
  document.querySelectorAll("nav a").forEach(function (link) {
    link.addEventListener("click", function () {
      var target = document.getElementById(link.getAttribute("href").slice(1));
      var folded = target && target.closest("details");
      if (folded) { folded.open = true; }
    });
  });
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (d) { d.open = true; });
  });
})();
