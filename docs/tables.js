// Makes tables sortable by clicking on, or pressing Enter in, the head of a column, by Tablesort.

// "1.1 MB", "2 x 128", "219 of 240" and "40.1 M / 443 k" are quantities, which stand before nothing at all.
function quantity(text) {
  const [, number, times, unit] = text.replaceAll(",", "").match(/^\s*([\d.]+)(?: x ([\d.]+))?\s*([kMG])?/) ?? [];
  return number === undefined ? -1 : number * (times ?? 1) * ({ k: 1e3, M: 1e6, G: 1e9 }[unit] ?? 1);
}

Tablesort.extend("quantity", (text) => /^\d/.test(text), (a, b) => quantity(b) - quantity(a));
for (const table of document.querySelectorAll("article table:not([class])")) new Tablesort(table);
