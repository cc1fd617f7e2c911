// Sorting by a click, or by Enter or Space, on a header; what has no value stays at the end.
function sortable(table) {
  const headers = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  const compare = (one, other) => (typeof one === 'number' && typeof other === 'number' ? one - other : String(one).localeCompare(String(other)));
  const valueOf = (row, column) => {
    const text = row.cells[column].dataset.value;
    return text === undefined ? null : row.cells[column].classList.contains('text') ? text : Number(text);
  };
  headers.forEach((header, column) => {
    header.querySelector('button').addEventListener('click', () => {
      const opposite = { ascending: 'descending', descending: 'ascending' };
      const order = opposite[header.getAttribute('aria-sort')] || header.dataset.first;
      for (const other of headers) other.setAttribute('aria-sort', other === header ? order : 'none');
      const rows = [...body.rows].map((row) => ({ row, value: valueOf(row, column) }));
      rows.sort((one, other) => {
        if (one.value === null || other.value === null) return (one.value === null) - (other.value === null);
        return order === 'ascending' ? compare(one.value, other.value) : compare(other.value, one.value);
      });
      body.append(...rows.map(({ row }) => row));
    });
  });
}
