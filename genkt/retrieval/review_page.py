"""The review page of suspected leaks: one offline HTML file, decided with the keyboard.

Nothing is fetched, and no other script than the page's own may run: its hash stands in the policy.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from genkt.report.kit.style import CSS
from genkt.report.kit.svg import esc
from genkt.retrieval.leaks import COLUMNS, DROP, KEEP

_LARGEST, _PIXEL_ART = 160, 64


@dataclass(frozen=True)
class Shown:
    """A picture of the page.

    Args:
        picture: RGB.  title, detail: two lines below.
    """

    picture: Image.Image
    title: str
    detail: str


@dataclass(frozen=True)
class ReviewRow:
    """A suspect and what it is compared with.

    Args:
        image_id: of the gallery.
        detail: what is known of it.
        own: its crop, where there is one, and the whole image.
        neighbours: the nearest images of the data.
    """

    image_id: str
    detail: str
    own: tuple[Shown, ...]
    neighbours: tuple[Shown, ...]


_STYLE = """
.bar{position:sticky;top:0;z-index:2;background:var(--bg);border-bottom:1px solid var(--rule);
margin:0 auto;max-width:1080px;padding:12px 28px;display:flex;flex-wrap:wrap;gap:8px 22px;
align-items:center;font-size:14px;color:var(--dim)}
.bar b{color:var(--ink);font-variant-numeric:tabular-nums}.bar span{white-space:nowrap}
kbd{font:600 12px/1 ui-monospace,Menlo,Consolas,monospace;background:var(--card);color:var(--ink);
border:1px solid var(--rule);border-bottom-width:2px;border-radius:5px;padding:3px 6px}
button{font:inherit;font-size:14px;border:1px solid var(--rule);background:var(--card);
color:var(--ink);border-radius:8px;padding:6px 14px;cursor:pointer}
button:hover{border-color:var(--base)}
#save{margin-left:auto;background:var(--c1);border-color:var(--c1);color:var(--on);font-weight:600}
#save:disabled{background:var(--grid);border-color:var(--rule);color:var(--dim);cursor:default}
.meter-all{flex:1 1 100%;height:5px;border-radius:3px;background:var(--grid);overflow:hidden;
display:flex}.meter-all i{display:block;height:5px}
#kept{background:var(--c1)}#dropped{background:var(--c2)}
.suspect{background:var(--card);border:1px solid var(--rule);border-radius:12px;
padding:16px 18px;margin:14px 0;scroll-margin:110px 0 20px;outline:0;
border-left:5px solid var(--rule);content-visibility:auto;contain-intrinsic-size:auto 260px}
.suspect.here{box-shadow:0 0 0 2px var(--base)}
.suspect.keep{border-left-color:var(--c1)}.suspect.drop{border-left-color:var(--c2)}
.suspect h3{margin:0 0 2px;overflow-wrap:anywhere;font-size:15px}
.suspect .top{display:flex;gap:10px;align-items:flex-start}.suspect .top>div{flex:1;min-width:0}
.suspect button[data-set]{min-width:74px}
.keep button[data-set=keep]{background:var(--good);border-color:var(--c1)}
.drop button[data-set=drop]{background:var(--bad);border-color:var(--c2)}
.pics{display:flex;flex-wrap:wrap;gap:14px;margin-top:12px}
.pics figure{margin:0;width:112px;min-width:0}
.pics .own{padding-right:18px;border-right:1px solid var(--rule)}
.pics div{display:flex;flex-wrap:wrap;gap:14px}
.pics img{display:block;width:112px;height:112px;object-fit:contain;background:var(--code);
border-radius:7px}.pics .art{image-rendering:pixelated}
.pics figcaption{font-size:12px;line-height:1.35;padding-top:5px;overflow-wrap:anywhere}
.pics figcaption b{display:block;color:var(--ink);font-weight:600}
@media (max-width:560px){.bar{padding:10px 16px}.pics .own{border:0;padding:0}
.pics figure,.pics img{width:92px}.pics img{height:92px}}
@media print{.bar{position:static}}
"""

_SCRIPT = """
'use strict';
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
  const safe = /^[=+\\-@\\t\\r]/.test(text) ? "'" + text : text;
  return '"' + safe.replaceAll('"', '""') + '"';
}
function table() {
  const lines = cards.map((card, number) =>
    [number, decisions[number], field(card.dataset.id), suspects].join(','));
  return ['COLUMNS', ...lines].join('\\n') + '\\n';
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
""".replace("COLUMNS", ",".join(COLUMNS))


def review_page(rows: Sequence[ReviewRow], suspects: str, command: str, intro: str) -> str:
    """The page.

    Args:
        rows: the suspects in order.
        suspects: their fingerprint, which every line of ``decisions.csv`` carries.
        command: to repeat with ``decontaminate.decisions=``.
        intro: what made them suspects.
    """
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    keys = (("j", "k", "move"), ("d", "drop"), ("s", "keep"), ("u", "undo"))
    legend = "".join(
        f"<span>{' '.join(f'<kbd>{key}</kbd>' for key in names)} {word}</span>"
        for *names, word in keys
    )
    number = "1 retrieved image" if len(rows) == 1 else f"{len(rows):,} retrieved images"
    cards = "".join(_card(index, row) for index, row in enumerate(rows))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{len(rows)} suspected leaks · genkt retrieve</title><style>{CSS}{_STYLE}</style>"
        f'</head><body data-suspects="{esc(suspects)}">'
        '<header><p class="eyebrow"><b>suspected leaks</b> · genkt retrieve</p>'
        f"<h1><b>{number}</b> may be images of your data</h1>"
        f'<p class="dim">{esc(intro)} Drop what shows the same scene as one of its neighbours: '
        "accuracy on a picture that was trained on says nothing about new ones. Keep what is "
        "only alike.</p></header>"
        f'<div class="bar"><b id="count"></b>{legend}'
        '<button id="save" type="button" disabled>Save decisions.csv</button>'
        '<div class="meter-all"><i id="kept"></i><i id="dropped"></i></div></div>'
        f"<main>{cards}<section><h2>Then</h2><pre>{esc(command)} "
        "decontaminate.decisions=decisions.csv</pre></section></main>"
        "<footer>Decisions stay in this browser until they are saved; the file says for which "
        f"suspects they are.</footer><script>{_SCRIPT}</script></body></html>\n"
    )


def _card(index: int, row: ReviewRow) -> str:
    own = "".join(map(_figure, row.own))
    near = "".join(map(_figure, row.neighbours))
    buttons = "".join(
        f'<button type="button" data-set="{decision}">{decision.title()}</button>'
        for decision in (KEEP, DROP)
    )
    name = row.image_id.rpartition("#")[0]
    return (
        f'<article class="suspect" data-id="{esc(row.image_id)}"><div class="top"><div>'
        f'<h3>{index + 1}. {esc(name)}</h3><div class="dim">{esc(row.detail)}</div></div>'
        f'{buttons}</div><div class="pics"><div class="own">{own}</div><div>{near}</div></div>'
        "</article>"
    )


def _figure(shown: Shown) -> str:
    uri, small = _thumbnail(shown.picture)
    return (
        f'<figure><img class="{"art" if small else ""}" src="{uri}" alt="{esc(shown.title)}" '
        f'loading="lazy"><figcaption><b>{esc(shown.title)}</b>{esc(shown.detail)}</figcaption>'
        "</figure>"
    )


def _thumbnail(picture: Image.Image) -> tuple[str, bool]:
    """A small picture as a data URI, and whether its pixels are to be seen."""
    small = max(picture.size) <= _PIXEL_ART
    if max(picture.size) > _LARGEST:
        picture = picture.copy()
        picture.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=small, quality=80, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode(), small
