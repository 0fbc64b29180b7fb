"""The style sheet of report.html: light, dark, phone and paper."""

CSS = """
:root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#1d1f24;--dim:#666b75;--rule:#e4e2dc;
--grid:#eeece6;--base:#767b85;--c1:#0a6cb4;--c2:#c4510c;--c3:#007a5e;--c4:#a34a8d;--c5:#8a6d00;
--c6:#5a55b8;--code:#f3f1ec;--good:#e3eff8;--bad:#fbe9df;--on:#fff}
@media (prefers-color-scheme:dark){:root{--bg:#131519;--card:#1b1e24;--ink:#e8e8ea;--dim:#9ea3ad;
--rule:#30343c;--grid:#262a31;--base:#9aa0ab;--c1:#58b0f4;--c2:#f0935a;--c3:#3fc59c;--c4:#dc90ca;
--c5:#d9b945;--c6:#a5a0f2;--code:#22262d;--good:#16324a;--bad:#472616;--on:#0d1014}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,
"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",sans-serif;font-variant-numeric:tabular-nums}
main,header{max-width:1080px;margin:0 auto;padding:0 28px}
header{padding-top:44px}
.eyebrow{color:var(--dim);font-size:14px;margin:0 0 10px;overflow-wrap:anywhere}
.eyebrow b{color:var(--ink)}
h1{font-size:clamp(23px,3.6vw,36px);line-height:1.28;font-weight:400;margin:0 0 20px;
letter-spacing:-.012em;max-width:30em;text-wrap:pretty}
h1 b{font-weight:700}
h1 .better{color:var(--c1)}h1 .worse{color:var(--c2)}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:14px;border-top:1px solid var(--rule);
padding:12px 0;margin-top:26px;border-bottom:1px solid var(--rule)}
a{color:var(--c1);text-decoration:none}a:hover{text-decoration:underline}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px}
.fact{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:13px 16px}
.fact b{display:block;font-size:23px;line-height:1.25;font-weight:650;letter-spacing:-.01em}
.fact span{color:var(--dim);font-size:13.5px;line-height:1.4;display:block}
section{margin:34px 0 0;padding-top:22px;border-top:1px solid var(--rule)}
main>section:first-child{border:0;margin:0}
h2{font-size:21px;margin:0 0 4px;letter-spacing:-.01em}
h3{font-size:15px;margin:20px 0 8px}
p{margin:6px 0 12px;max-width:46em}
.dim,figcaption,.small{color:var(--dim)}
.dim{font-size:14px}
.cols{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:8px 40px;
align-items:start}
.cols>div{min-width:0}
.scroll{overflow-x:auto;margin:10px 0 14px}
.scroll>.chart{min-width:640px}
table{border-collapse:collapse;font-size:14.5px;min-width:100%}
th,td{padding:7px 12px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:11.5em}
td.words{white-space:normal;text-align:left;overflow-wrap:anywhere;min-width:9em}
th.words{text-align:left}
th{font-weight:500;color:var(--dim);font-size:13px}
tr.main td{font-weight:650}
.named{display:block;position:relative;padding-left:18px}
.named::before{content:"";position:absolute;left:0;top:.45em;width:10px;height:10px;
border-radius:50%;background:var(--dot)}
.meter{display:block;height:6px;border-radius:3px;background:var(--c1);min-width:1px}
.track{display:block;width:170px}
.notes{margin:18px 0 0;padding-left:18px;font-size:14.5px;color:var(--dim);max-width:58em}
.mix{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:12px 0 6px;gap:2px}
.mix i{display:block;min-width:2px}
.legend{display:flex;flex-wrap:wrap;gap:4px 20px;font-size:14px;margin-bottom:14px}
pre{background:var(--code);border-radius:8px;padding:12px 14px;overflow-x:auto;font-size:13.5px;
line-height:1.5;margin:8px 0 14px;font-family:ui-monospace,"SF Mono",Menlo,Consolas,
"Liberation Mono",monospace;-webkit-user-select:all;user-select:all}
details{margin:10px 0}summary{cursor:pointer;color:var(--c1);font-size:15px}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(75px,1fr));gap:14px 10px;
margin:8px 0 18px}
.sheet figure{margin:0;min-width:0}
.sheet i{display:block;aspect-ratio:1;border-radius:6px;background-color:var(--code);
background-repeat:no-repeat;-webkit-print-color-adjust:exact;print-color-adjust:exact}
.sheet figcaption b{color:var(--ink);font-weight:600}
.sheet figcaption{font-size:12px;line-height:1.35;padding-top:4px;overflow-wrap:anywhere}
.sheet b,.sheet span{display:-webkit-box;-webkit-box-orient:vertical;overflow:hidden}
.sheet b{-webkit-line-clamp:3}.sheet span{-webkit-line-clamp:2}
.sheet.photos{grid-template-columns:repeat(auto-fill,minmax(112px,1fr))}
.sheet .wrong i,.sheet .lost i{box-shadow:0 0 0 2.5px var(--c2)}
.sheet .gained i,.sheet .labelled i{box-shadow:0 0 0 2.5px var(--c1)}
.chart{display:block;width:100%;height:auto;margin:4px 0 8px;font-size:12px;overflow:visible}
.chart text{fill:var(--ink)}
.chart .small{font-size:11.5px;fill:var(--dim)}
.chart .label{font-weight:600;font-size:12.5px}.chart .value{font-weight:650;font-size:13.5px}
.chart .halo{paint-order:stroke;stroke:var(--bg);stroke-width:4px;stroke-linejoin:round}
.chart .grid{stroke:var(--grid)}.chart .axis{stroke:var(--rule)}
.chart .reference{stroke:var(--dim);stroke-dasharray:3 4}
.chart .pair{stroke:var(--dim);stroke-opacity:.4}
.chart .interval{stroke-width:9;stroke-opacity:.28;stroke-linecap:butt}
.chart .mean{stroke:var(--bg);stroke-width:2}
.chart .whisker{stroke-width:2;stroke-opacity:.5}
.chart .curve{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.chart .thin{stroke-opacity:.35}.chart .band{fill-opacity:.16}
.chart .target{fill:transparent}
.chart .empty{fill:var(--grid)}
.chart .count{font-size:11.5px}.chart .count.strong{fill:var(--on)}
footer{color:var(--dim);font-size:13px;max-width:1080px;margin:40px auto 0;padding:16px 28px 48px}
@media (max-width:560px){main,header,footer{padding-left:16px;padding-right:16px}
header{padding-top:26px}.facts{grid-template-columns:1fr 1fr;gap:8px}.fact{padding:10px 12px}
.fact b{font-size:19px}.sheet{grid-template-columns:repeat(6,1fr);gap:12px 8px}
.sheet.photos{grid-template-columns:repeat(4,1fr)}
nav{gap:4px 16px}th,td{padding:7px 9px}.sheet figcaption{font-size:11.5px}.track{width:64px}}
@media print{:root{color-scheme:light;--bg:#fff;--card:#fff}nav{display:none}body{font-size:12px}
section,figure,tr,.chart,.fact{break-inside:avoid}section.long{break-inside:auto}
h2,h3{break-after:avoid}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
pre{white-space:pre-wrap;overflow-wrap:anywhere}.scroll{overflow:visible}
.cols{grid-template-columns:1fr 1fr}}
"""
