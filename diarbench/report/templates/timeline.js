"use strict";
// Zooming, moving, hovering and going from error to error. All figures it shows are in the document.

(function () {
  const store = JSON.parse(document.getElementById("timelines").textContent);
  const tip = document.getElementById("tip");
  const LEAST = 500; // ms that a view shows, at least
  const drawn = [];
  for (const figure of document.querySelectorAll("figure[data-timeline]")) {
    drawn.push(makeTimeline(figure, store[figure.dataset.timeline]));
  }
  if (drawn.length) document.getElementById("how").hidden = false;
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((draw) => draw()));

  function makeTimeline(figure, data) {
    const canvas = figure.querySelector("canvas");
    const told = figure.querySelector(".told");
    const range = figure.querySelector("output");
    const pick = (what) => figure.querySelector('[data-pick="' + what + '"]');
    const blocks = data.blocks.map((block) => ({
      ...block,
      gaps: unpack(block.unscored, 3),
      rows: block.rows.map((row) => ({ ...row, spans: unpack(row.spans, row.kind === "error" ? 3 : 2) })),
    }));
    const rows = blocks.flatMap((block, place) => block.rows.map((row) => ({ ...row, block, system: place - 1 })));
    const errors = rows
      .filter((row) => row.kind === "error")
      .flatMap((row) => row.spans.map((span) => ({ row, span })))
      .sort((one, other) => one.span.start - other.span.start || one.row.y - other.row.y);
    const height = canvas.height;
    const least = Math.min(LEAST, data.length);
    let [from, to] = [0, data.length];
    let selected = null;
    let pointed = null; // ms under the pointer
    let waiting = false;

    figure.classList.add("live");
    canvas.hidden = false;
    figure.querySelector(".controls").hidden = false;

    // --- what is seen

    function look(start, length) {
      const span = Math.min(data.length, Math.max(least, length));
      const begin = Math.min(data.length - span, Math.max(0, start));
      const changed = begin !== from || begin + span !== to;
      [from, to] = [begin, begin + span];
      redraw();
      return changed;
    }

    function zoom(factor, middle = (from + to) / 2) {
      const span = Math.min(data.length, Math.max(least, (to - from) * factor));
      return look(middle - ((middle - from) / (to - from)) * span, span);
    }

    function redraw() {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; draw(); });
    }

    function draw() {
      const width = canvas.clientWidth;
      if (!width) return;
      const ratio = window.devicePixelRatio || 1;
      if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
        canvas.width = Math.round(width * ratio);
        canvas.height = Math.round(height * ratio);
        canvas.style.height = height + "px";
      }
      const style = getComputedStyle(figure);
      const colour = (name) => style.getPropertyValue(name).trim();
      const pen = canvas.getContext("2d");
      const x = (time) => ((time - from) / (to - from)) * width;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      drawAxis(pen, x, width, colour);
      for (const block of blocks) {
        bars(pen, block.gaps, x, width, block.top, block.bottom - block.top, colour("--shade"), 0);
      }
      const hues = [8, 1, 2, 3, 4, 5, 6, 7].map((hue) => colour("--hue-" + hue));
      const kinds = ["--t-missed", "--t-false-alarm", "--t-confusion"].map(colour);
      for (const row of rows) {
        const error = row.kind === "error";
        pen.globalAlpha = error ? 1 : 0.65; // paler than errors
        bars(pen, row.spans, x, width, row.y + 1.5, row.height - 3, (error ? kinds : hues)[row.hue], 1);
      }
      pen.globalAlpha = 1;
      if (pointed !== null) {
        pen.fillStyle = colour("--faint");
        pen.fillRect(x(pointed), 18, 1, height - 18);
      }
      if (selected) {
        const [left, right] = [x(selected.span.start), x(selected.span.end)];
        pen.strokeStyle = colour("--mark");
        pen.lineWidth = 2;
        pen.strokeRect(left - 1.5, selected.row.y - 0.5, Math.max(right - left, 2) + 3, selected.row.height + 1);
        pen.lineWidth = 0.5;
        pen.beginPath();
        for (const edge of [left, right]) { pen.moveTo(edge, 18); pen.lineTo(edge, height); }
        pen.stroke();
      }
      [figure.dataset.from, figure.dataset.to] = [Math.round(data.start + from), Math.round(data.start + to)];
      const whole = to - from >= data.length;
      range.textContent = (whole ? "whole recording, " : "") + clock(from) + " to " + clock(to);
    }

    function drawAxis(pen, x, width, colour) {
      const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 36000];
      const step = 1000 * (steps.find((one) => ((1000 * one) / (to - from)) * width >= 75) || 86400);
      pen.font = "11px system-ui, sans-serif";
      pen.textAlign = "center";
      for (let at = Math.ceil((data.start + from) / step) * step; at <= data.start + to; at += step) {
        const place = x(at - data.start);
        pen.fillStyle = colour("--line");
        pen.fillRect(place, 18, 1, height - 18);
        pen.fillStyle = colour("--soft");
        if (place > 18 && place < width - 18) pen.fillText(clock(at - data.start, step < 1000 ? 1 : 0), place, 14);
      }
      if (to - from < data.length) {
        // Where in the recording this is.
        pen.fillStyle = colour("--line");
        pen.fillRect(0, 0, width, 3);
        pen.fillStyle = colour("--accent");
        pen.fillRect((from / data.length) * width, 0, Math.max(3, ((to - from) / data.length) * width), 3);
      }
    }

    // Those of the spans that are in view; narrow ones as wide as can be seen, those within one that is drawn not again.
    function bars(pen, spans, x, width, top, tall, colour, narrowest) {
      pen.fillStyle = colour;
      let last = -2;
      for (let place = firstAfter(spans, from); place < spans.length && spans[place].start < to; place += 1) {
        const begin = Math.max(x(spans[place].start), -2);
        const right = Math.min(Math.max(x(spans[place].end), begin + narrowest), width + 2);
        if (right <= last) continue;
        const left = Math.max(begin, last);
        // A hair is left free between turns that touch, where there is room for it.
        pen.fillRect(left, top, right - left > 4 && narrowest ? right - left - 0.5 : right - left, tall);
        last = right;
      }
    }

    // --- what is there

    const label = (row) => (row.kind === "error" ? data.kinds[row.hue] + " by " + row.block.name : row.name);

    function times(span) {
      const seconds = (time) => ((data.start + time) / 1000).toFixed(2);
      const length = ((span.end - span.start) / 1000).toFixed(2);
      return clock(span.start, 2) + ", " + seconds(span.start) + "–" + seconds(span.end) + " s, " + length + " s long";
    }

    function errorText(row, span) {
      const [words, speakers] = data.texts[span.what];
      const counts = (speakers * (span.end - span.start)) / 1000;
      const more = speakers > 1 ? "; " + speakers + " speakers at once, counts " + counts.toFixed(2) + " s" : "";
      return data.kinds[row.hue] + " by " + row.block.name + ": " + words + more;
    }

    function at(spans, time, slack) {
      const place = firstAfter(spans, time);
      const near = [spans[place - 1], spans[place]].filter(Boolean);
      const away = (span) => Math.max(span.start - time, time - span.end, 0);
      near.sort((one, other) => away(one) - away(other));
      return near.length && away(near[0]) <= slack ? near[0] : null;
    }

    function tell(left, top) {
      const slack = (2.5 / canvas.clientWidth) * (to - from);
      const time = from + (left / canvas.clientWidth) * (to - from);
      const row = rows.find((one) => top >= one.y && top < one.y + one.height);
      const block = blocks.find((one) => top >= one.top && top < one.bottom);
      const span = row && at(row.spans, time, slack);
      const lines = [];
      if (span && row.kind === "error") lines.push(errorText(row, span), times(span));
      if (span && row.kind === "lane") {
        lines.push(label(row), times(span));
        for (const other of rows) {
          if (other.kind !== "error" || (row.system >= 0 && row.system !== other.system)) continue;
          const error = at(other.spans, Math.min(Math.max(time, span.start), span.end - 1), 0);
          if (error) lines.push(errorText(other, error));
        }
      }
      const gap = block && at(block.gaps, time, 0);
      if (gap) lines.push("not scored: " + data.reasons[gap.what]);
      return { time, lines, error: span && row.kind === "error" ? { row, span } : null };
    }

    function showTip(event, lines) {
      tip.hidden = !lines.length;
      if (!lines.length) return;
      tip.textContent = lines.join("\n");
      const box = tip.getBoundingClientRect();
      const beyond = event.clientX + 14 + box.width > document.documentElement.clientWidth;
      tip.style.left = Math.max(0, beyond ? event.clientX - 14 - box.width : event.clientX + 14) + "px";
      const below = event.clientY + 18 + box.height > window.innerHeight;
      tip.style.top = Math.max(0, below ? event.clientY - 12 - box.height : event.clientY + 18) + "px";
    }

    // --- from error to error

    function wanted() {
      const [kind, system] = [pick("kind").value, pick("system") ? pick("system").value : ""];
      return errors.filter(({ row }) =>
        (kind === "" || row.hue === Number(kind)) && (system === "" || row.system === Number(system)));
    }

    function step(direction) {
      const all = wanted();
      const order = (one) => errors.indexOf(one);
      const behind = (one) =>
        selected ? direction * (order(one) - order(selected)) > 0
          : direction > 0 ? one.span.start >= from : one.span.end <= to;
      const found = direction > 0 ? all.find(behind) : all.filter(behind).pop();
      if (!found) {
        told.textContent = all.length ? "No " + (direction > 0 ? "further" : "earlier") + " error of this kind." : "No such error.";
        return;
      }
      go(found, "Error " + (all.indexOf(found) + 1) + " of " + all.length + ": ");
    }

    function go(error, front = "") {
      selected = error;
      const { start, end } = error.span;
      told.textContent = front + errorText(error.row, error.span) + ", " + times(error.span) + ".";
      const length = end - start;
      const visible = (length / (to - from)) * canvas.clientWidth;
      const span = visible < 8 || length > to - from ? Math.max(20000, 5 * length) : to - from;
      const inside = start >= from + 0.1 * (to - from) && end <= to - 0.1 * (to - from);
      if (span !== to - from || !inside) look((start + end) / 2 - span / 2, span);
      redraw();
    }

    // --- hands

    canvas.addEventListener("wheel", (event) => {
      const across = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
      const pinched = event.ctrlKey || event.metaKey;
      const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
      if (across) {
        const moved = unit * (Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : event.deltaY);
        if (look(from + (moved / canvas.clientWidth) * (to - from), to - from)) event.preventDefault();
      } else if (pinched || document.activeElement === canvas) {
        const pointer = from + (event.offsetX / canvas.clientWidth) * (to - from);
        const changed = zoom(Math.exp(Math.max(-0.7, Math.min(0.7, unit * event.deltaY * 0.003))), pointer);
        if (changed || pinched) event.preventDefault();
      }
    }, { passive: false });

    let held = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      held = { x: event.clientX, from, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (held) {
        const moved = event.clientX - held.x;
        held.moved = held.moved || Math.abs(moved) > 3;
        if (!held.moved) return;
        canvas.classList.add("dragged");
        tip.hidden = true;
        look(held.from - (moved / canvas.clientWidth) * (to - from), to - from);
        return;
      }
      const found = tell(event.offsetX, event.offsetY);
      pointed = found.time;
      showTip(event, found.lines);
      redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const clicked = held && !held.moved;
      held = null;
      canvas.classList.remove("dragged");
      if (!clicked) return;
      const found = tell(event.offsetX, event.offsetY);
      selected = found.error;
      told.textContent = found.lines.join(" – ");
      redraw();
    });
    canvas.addEventListener("pointercancel", () => { held = null; canvas.classList.remove("dragged"); });
    canvas.addEventListener("pointerleave", () => { pointed = null; tip.hidden = true; redraw(); });

    const actions = {
      in: () => zoom(0.5), out: () => zoom(2), whole: () => look(0, data.length),
      next: () => step(1), previous: () => step(-1),
      left: () => look(from - 0.2 * (to - from), to - from), right: () => look(from + 0.2 * (to - from), to - from),
      home: () => look(0, to - from), end: () => look(data.length, to - from),
      nothing: () => { selected = null; tip.hidden = true; told.textContent = ""; redraw(); },
    };
    const keys = {
      ArrowLeft: "left", ArrowRight: "right", "+": "in", "=": "in", "-": "out", "−": "out", 0: "whole",
      Home: "home", End: "end", n: "next", p: "previous", Escape: "nothing",
    };
    canvas.addEventListener("keydown", (event) => {
      const action = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
      if (!action) return;
      event.preventDefault();
      actions[action]();
    });
    for (const button of figure.querySelectorAll("button[data-do]")) {
      button.addEventListener("click", () => actions[button.dataset.do]());
    }
    for (const table of figure.parentElement.querySelectorAll(".longest")) linkErrors(table);

    function linkErrors(table) {
      for (const cell of table.querySelectorAll("td[data-at]")) {
        const time = Number(cell.dataset.at) - data.start;
        const error = errors.find(({ row, span }) =>
          row.system === Number(table.dataset.system) && data.kinds[row.hue] === cell.dataset.kind && span.start === time);
        if (!error) continue;
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = cell.textContent;
        button.addEventListener("click", () => {
          go(error);
          figure.scrollIntoView({ block: "nearest" });
        });
        cell.replaceChildren(button);
      }
    }

    function clock(time, digits = 0) {
      const all = Math.round((data.start + time) / 10 ** (3 - digits)) * 10 ** (3 - digits);
      const seconds = Math.abs(all) / 1000;
      const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
      const rest = (seconds % 60).toFixed(digits).padStart(digits ? digits + 3 : 2, "0");
      return (all < 0 ? "−" : "") + (hours ? hours + ":" + String(minutes).padStart(2, "0") : minutes) + ":" + rest;
    }

    new ResizeObserver(redraw).observe(canvas);
    draw();
    return redraw;
  }

  // Steps from end to start, lengths, and with a third number what a span is.
  function unpack(flat, size) {
    const spans = [];
    let before = 0;
    for (let place = 0; place < flat.length; place += size) {
      const start = before + flat[place];
      before = start + flat[place + 1];
      spans.push({ start, end: before, what: size === 3 ? flat[place + 2] : null });
    }
    return spans;
  }

  // The place of the first span that ends after a time.
  function firstAfter(spans, time) {
    let [low, high] = [0, spans.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (spans[middle].end > time) high = middle;
      else low = middle + 1;
    }
    return low;
  }
})();
