'use strict';
// The review page of suspected leaks: decisions by keyboard or mouse, kept in this browser.
const cards = [...document.querySelectorAll('.suspect')];
const suspects = document.body.dataset.suspects, memory = 'genkt ' + suspects;
const decisions = {}, past = [];
let here = 0;
function remember() {
  try { localStorage.setItem(memory, JSON.stringify(decisions)); } catch (error) { /* private */ }
}
function show() {
  const count = {keep: 0, drop: 0};
  cards.forEach((card, number) => {
    const decision = decisions[number];
    if (decision) count[decision] += 1;
    card.classList.toggle('keep', decision === 'keep');
    card.classList.toggle('drop', decision === 'drop');
    card.classList.toggle('here', number === here);
  });
  const done = count.keep + count.drop, all = cards.length;
  document.getElementById('count').textContent = done + ' of ' + all + ' decided';
  document.getElementById('kept').style.width = 100 * count.keep / all + '%';
  document.getElementById('dropped').style.width = 100 * count.drop / all + '%';
  document.getElementById('save').disabled = done < all;
}
function go(number) {
  here = Math.max(0, Math.min(cards.length - 1, number));
  show();
  cards[here].scrollIntoView({block: 'nearest'});
}
function decide(number, decision) {
  past.push([number, decisions[number]]);
  decisions[number] = decision;
  remember();
  go(number + 1);
}
function undo() {
  if (!past.length) return;
  const [number, before] = past.pop();
  if (before) decisions[number] = before; else delete decisions[number];
  remember();
  go(number);
}
function field(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
  return '"' + safe.replaceAll('"', '""') + '"';
}
function table() {
  const lines = cards.map((card, number) =>
    [number, decisions[number], field(card.dataset.id), suspects].join(','));
  return [document.body.dataset.columns, ...lines].join('\n') + '\n';
}
function save() {
  if (document.getElementById('save').disabled) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([table()], {type: 'text/csv'}));
  link.download = 'decisions.csv';
  link.click();
}
try {
  const known = JSON.parse(localStorage.getItem(memory) || '{}');
  cards.forEach((_, number) => {
    if (known[number] === 'keep' || known[number] === 'drop') decisions[number] = known[number];
  });
} catch (error) { /* nothing remembered */ }
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = {j: 1, ArrowDown: 1, k: -1, ArrowUp: -1};
  if (event.key in moves) go(here + moves[event.key]);
  else if (event.key === 'd') decide(here, 'drop');
  else if (event.key === 's') decide(here, 'keep');
  else if (event.key === 'u') undo();
  else return;
  event.preventDefault();
});
cards.forEach((card, number) => card.addEventListener('click', event => {
  const decision = event.target.dataset.set;
  if (decision) decide(number, decision); else { here = number; show(); }
}));
document.getElementById('save').addEventListener('click', save);
show();
