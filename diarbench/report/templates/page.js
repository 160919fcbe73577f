"use strict";
// Sorting, filtering and drawing of a leaderboard page. Everything it shows is already in the document.

(function () {
  const board = document.getElementById("board");
  if (board) {
    makeSortable(board);
    makeFilterable(board);
    makeHideable(board);
  }
  const store = document.getElementById("charts");
  if (store) drawCharts(JSON.parse(store.textContent));

  // Clicking a heading sorts by it, smallest first, then largest first; missing values stay last either way, and
  // systems without a rank stay below those with one.
  function makeSortable(table) {
    const headings = [...table.querySelectorAll("thead th[aria-sort]")];
    headings.forEach((heading, index) => {
      heading.querySelector("button").addEventListener("click", () => {
        const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        headings.forEach((other) => other.setAttribute("aria-sort", "none"));
        heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
        for (const body of table.tBodies) sortRows(body, index, direction);
      });
    });
  }

  function sortRows(body, index, direction) {
    const rows = [...body.querySelectorAll("tr[data-method]")];
    const key = (row) => row.children[index].dataset.sort;
    const numeric = rows.every((row) => key(row) === "" || Number.isFinite(Number(key(row))));
    rows.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return direction * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
    });
    body.append(...rows);
  }

  function makeFilterable(table) {
    const text = document.getElementById("filter");
    const method = document.getElementById("method");
    const shown = document.getElementById("shown");
    const rows = [...table.querySelectorAll("tr[data-method]")];
    const update = () => {
      const words = text.value.toLowerCase().split(/\s+/);
      let count = 0;
      for (const row of rows) {
        const content = row.querySelector("th.system").textContent.toLowerCase();
        const fits = words.every((word) => content.includes(word));
        row.hidden = !(fits && (!method || method.value === "*" || method.value === row.dataset.method));
        if (!row.hidden) count += 1;
      }
      const all = rows.length + (rows.length === 1 ? " system" : " systems");
      shown.textContent = count === rows.length ? all : count + " of " + all;
    };
    text.addEventListener("input", update);
    if (method) method.addEventListener("change", update);
    update();
  }

  // Kinds of columns can be hidden. Where the window is too narrow for all of them, some give way from the start, the
  // first ones first, until the reader chooses.
  function makeHideable(table) {
    const kinds = document.getElementById("kinds");
    const boxes = [...kinds.querySelectorAll("input")];
    const cells = [...table.querySelectorAll("[data-kind]")];
    const heads = [...table.tHead.rows[1].querySelectorAll("[data-group]")];
    const groups = [...table.tHead.rows[0].querySelectorAll("[data-group]")];
    const show = (box, shown) => {
      box.checked = shown;
      for (const cell of cells) if (cell.dataset.kind === box.value) cell.hidden = !shown;
      for (const group of groups) {
        const left = heads.filter((head) => head.dataset.group === group.dataset.group && !head.hidden);
        group.hidden = left.length === 0;
        group.colSpan = Math.max(1, left.length);
      }
    };
    const tooWide = () => table.parentElement.scrollWidth > table.parentElement.clientWidth;
    const fit = () => {
      const hidden = [];
      for (const box of boxes) show(box, true);
      for (const box of boxes) {
        if (!tooWide()) break;
        show(box, false);
        hidden.unshift(box);
      }
      for (const box of hidden) {
        show(box, true);
        if (tooWide()) show(box, false);
      }
    };
    for (const box of boxes) {
      box.addEventListener("change", () => {
        window.removeEventListener("resize", fit);
        show(box, box.checked);
      });
    }
    kinds.hidden = boxes.length === 0;
    window.addEventListener("resize", fit);
    fit();
  }

  // Vega runs with its expression interpreter (`ast`), so that the page's policy need not allow eval.
  function drawCharts(specs) {
    const options = {
      mode: "vega-lite", actions: false, renderer: "svg", ast: true, defaultStyle: false, patch: placeNames,
      tooltip: { disableDefaultStyle: true },
    };
    const draw = (id) => {
      const place = document.getElementById(id);
      if (place.dataset.drawn) return;
      place.dataset.drawn = "yes";
      place.textContent = "";
      vegaEmbed(place, specs[id], options).then(
        (result) => offerSvg(id, result.view),
        (error) => {
          place.textContent = "This chart could not be drawn: " + error.message;
          place.classList.add("broken");
          console.error(id, error);
        },
      );
    };
    for (const id of Object.keys(specs)) {
      // A chart in a closed section has no width yet: it is drawn when the section opens.
      const section = document.getElementById(id).closest("details");
      if (section) section.addEventListener("toggle", () => section.open && draw(id));
      else draw(id);
    }
  }

  // The marks called "names" become labels of the marks called "points", moved to where they hide nothing.
  function placeNames(spec) {
    const visit = (group) => {
      for (const mark of group.marks || []) {
        visit(mark);
        if (mark.name !== "names_marks") continue;
        mark.from = { data: "points_marks" };
        mark.encode = { update: {
          text: { field: "datum.system" }, fill: { value: "var(--ink)" }, fontSize: { value: 11 },
          stroke: { value: "var(--paper)" }, strokeWidth: { value: 3 }, // a halo, where a line runs behind
        } };
        mark.transform = [{
          type: "label", size: { signal: "[max(1, width), max(1, height)]" }, offset: [3],
          anchor: ["right", "left", "top", "bottom", "top-right", "bottom-right", "top-left", "bottom-left"],
        }];
      }
    };
    visit(spec);
    return spec;
  }

  function offerSvg(id, view) {
    const button = document.querySelector('button.save[data-chart="' + id + '"]');
    button.hidden = false;
    button.addEventListener("click", () => {
      view.toSVG().then((svg) => {
        const colours = getComputedStyle(document.documentElement);
        const plain = svg.replace(/var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim());
        const haloed = plain.replace("<svg ", '<svg paint-order="stroke" ');
        const link = document.createElement("a");
        link.href = URL.createObjectURL(new Blob([haloed], { type: "image/svg+xml" }));
        link.download = id + ".svg";
        link.click();
        URL.revokeObjectURL(link.href);
      });
    });
  }
})();
