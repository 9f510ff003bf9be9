"""The script of the report: tables sort by a click on a heading, long ones are filtered by words. Without it the page says the same."""

SCRIPT = """
(function () {
  'use strict';
  var LONG = 6;
  // The first number of a cell, so that '0.712 (0.65 to 0.77)' and '−0.02' sort as numbers; NaN where there is none.
  function number(cell) {
    var plain = cell.replace(/\\u2212/g, '-').replace(/(\\d)[\\u00a0\\u202f ](?=\\d{3}\\b)/g, '$1');
    var found = plain.match(/^[<>≤≥+]?\\s*(-?\\d+(?:\\.\\d+)?(?:e[-+]?\\d+)?)/i);
    return found ? parseFloat(found[1]) : NaN;
  }
  function cell(row, k) { return row.cells[k] ? row.cells[k].textContent.trim() : ''; }
  function sort(table, k, heading) {
    var body = table.tBodies[0], rows = Array.prototype.slice.call(body.rows);
    var turn = heading.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
    var values = rows.map(function (row) { return number(cell(row, k)); });
    var numeric = values.filter(function (value) { return !isNaN(value); }).length > rows.length / 2;
    var order = rows.map(function (row, at) { return {row: row, at: at, value: values[at], text: cell(row, k)}; });
    order.sort(function (a, b) {
      var aNone = numeric ? isNaN(a.value) : a.text === '' || a.text === '–';
      var bNone = numeric ? isNaN(b.value) : b.text === '' || b.text === '–';
      if (aNone || bNone) { return aNone === bNone ? a.at - b.at : aNone ? 1 : -1; }  // what is absent stays below
      var way = numeric ? a.value - b.value : a.text.localeCompare(b.text, undefined, {numeric: true});
      return way ? turn * way : a.at - b.at;
    });
    order.forEach(function (entry) { body.appendChild(entry.row); });
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (other) { other.removeAttribute('aria-sort'); });
    heading.setAttribute('aria-sort', turn === 1 ? 'ascending' : 'descending');
  }
  function sortable(table) {
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (heading, k) {
      if (!heading.textContent.trim()) { return; }
      heading.tabIndex = 0;
      heading.className += ' sortable';
      heading.title = 'Sort by ' + heading.textContent.trim();
      heading.addEventListener('click', function () { sort(table, k, heading); });
      heading.addEventListener('keydown', function (event) {
        if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); sort(table, k, heading); }
      });
    });
  }
  function filterable(table) {
    var rows = Array.prototype.slice.call(table.tBodies[0].rows);
    if (rows.length <= LONG) { return; }
    var box = document.createElement('div'), input = document.createElement('input'), told = document.createElement('span');
    box.className = 'filter';
    input.type = 'search';
    input.placeholder = 'Filter rows';
    input.setAttribute('aria-label', 'Filter rows');
    told.setAttribute('role', 'status');
    input.addEventListener('input', function () {
      var words = input.value.toLowerCase().split(/\\s+/).filter(Boolean), shown = 0;
      rows.forEach(function (row) {
        var text = row.textContent.toLowerCase();
        row.hidden = !words.every(function (word) { return text.indexOf(word) >= 0; });
        shown += row.hidden ? 0 : 1;
      });
      told.textContent = words.length ? shown + ' of ' + rows.length : '';
    });
    box.appendChild(input);
    box.appendChild(told);
    table.parentNode.insertBefore(box, table);
  }
  Array.prototype.forEach.call(document.querySelectorAll('.wide > table'), function (table) {
    if (table.tHead && table.tBodies[0] && table.tBodies[0].rows.length > 1) { sortable(table); filterable(table); }
  });
})();
"""
