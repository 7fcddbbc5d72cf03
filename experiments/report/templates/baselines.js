"use strict";
// Shows improvements over the agent that the reader chooses; the page begins with one of them.
(() => {
  const data = JSON.parse(document.getElementById("improvements").textContent);

  function show(table, column, improvements) {
    for (const row of table.tBodies[0].rows) {
      const [value, interval, clear] = improvements[row.cells[0].textContent] || ["", "", null];
      const cell = row.cells[column];
      cell.className = clear === false ? "unclear" : "";
      const small = document.createElement("small");
      small.textContent = interval;
      cell.replaceChildren(...(value ? [value, " ", small] : ["–"]));
    }
  }

  for (const select of document.querySelectorAll("select.baseline")) {
    const table = document.getElementById(select.getAttribute("aria-controls")).querySelector("table");
    const heads = [...table.tHead.rows[0].cells];
    const column = heads.findIndex((head) => head.textContent === select.dataset.head);
    const own = data[select.dataset.task];
    select.addEventListener("change", () => {
      heads[column].textContent = select.dataset.head.replace(select.dataset.first, select.value);
      show(table, column, own[select.value]);
    });
    select.closest("label").hidden = false;
  }
})();
