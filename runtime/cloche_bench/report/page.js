(() => {
  const root = document.documentElement, theme = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  const name = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Use ${theme.textContent.toLowerCase()} colours`); };
  theme.hidden = false;
  theme.onclick = () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); };
  dark.onchange = name;
  name();

  const unit = { ns: 1e-9, "µs": 1e-6, ms: 1e-3, s: 1, B: 1, KiB: 1024, MiB: 1048576, GiB: 1073741824, k: 1e3, M: 1e6, G: 1e9 };
  const value = text => {
    const found = /^([\d,.]+)\s*([a-zµA-Z]*)/.exec(text.trim());
    return found ? parseFloat(found[1].replaceAll(",", "")) * (unit[found[2]] ?? 1) : NaN;
  };
  const sort = (table, index, head) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = [...body.rows].map(row => [row, row.cells[index].textContent, value(row.cells[index].textContent)]);
    rows.sort((a, b) => isNaN(a[2]) || isNaN(b[2]) ? (isNaN(a[2]) - isNaN(b[2])) || a[1].localeCompare(b[1]) : a[2] - b[2]);
    if (down) rows.reverse();
    body.append(...rows.map(row => row[0]));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };
  for (const table of document.querySelectorAll("table.data")) {
    [...table.tHead.rows[0].cells].forEach((head, index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.onclick = () => sort(table, index, head);
      head.append(button);
    });
  }

  const tools = document.getElementById("tools"), filter = document.getElementById("filter"), count = document.getElementById("count");
  const cases = [...document.querySelectorAll("article.case")], groups = [...document.querySelectorAll("section.group")];
  const narrow = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const one of cases) {
      const fits = words.every(word => one.dataset.name.includes(word));
      one.classList.toggle("hidden", !fits);
      shown += fits;
    }
    for (const group of groups) group.classList.toggle("hidden", !group.querySelector("article.case:not(.hidden)"));
    count.textContent = words.length ? `${shown} of ${cases.length} cases` : `${cases.length} cases`;
  };
  tools.hidden = false;
  tools.onsubmit = event => event.preventDefault();
  filter.oninput = narrow;
  for (const box of tools.querySelectorAll("input[data-contender]"))
    box.onchange = () => { for (const row of document.querySelectorAll(`.row.${box.dataset.contender}`)) row.classList.toggle("hidden", !box.checked); };
  narrow();
})();
