"""How pages look: light and dark, from the width of a phone to that of a desk."""

STYLE = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--text:#1b1f24;--muted:#535c68;
--line:#d3d8de;--key:#2f6db5;--mouse:#0f766e;--axis:#7a4fb5;--accent:#b4540a;--good:#146c36;
--warn:#8a5300;--bad:#b3261e;--cap:#e7ebf0}
@media (prefers-color-scheme:dark){:root{--page:#101318;--card:#191e25;--text:#e7eaee;
--muted:#a9b2bd;--line:#3a424d;--key:#6fa8ec;--mouse:#4fc3b5;--axis:#b79af0;--accent:#f29b4b;
--good:#6fce92;--warn:#f0b45a;--bad:#ff8f85;--cap:#2a313b}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--text);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
overflow-wrap:anywhere}
main{max-width:1180px;margin:0 auto;padding:1.25rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 .5rem}
h2{font-size:1.2rem;margin:0 0 .5rem}
h3{font-size:1rem;margin:0}
p{margin:.25rem 0 .75rem;max-width:75ch}
ul{padding-left:1.25rem;margin:.25rem 0}
a{color:var(--key)}
header>.muted{margin:0}
nav{display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin-top:.5rem}
section{margin-top:2rem}
footer{margin-top:2.5rem}
.muted{color:var(--muted);font-size:.9rem}
.notice{border-left:4px solid var(--accent);padding:.25rem .75rem;background:var(--card)}
.warnings li::marker{color:var(--warn)}
.mark{display:inline-block;border:1px solid currentColor;border-radius:1rem;padding:0 .6rem;
font-size:.85rem;color:var(--muted)}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));
gap:.5rem 1.5rem;margin:.5rem 0 1rem}
.facts div{min-width:0}
dt{color:var(--muted);font-size:.85rem}
dd{margin:0}
table{border-collapse:collapse;margin:.5rem 0 1rem;max-width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;vertical-align:top;padding:.3rem 1.25rem .3rem 0;
border-bottom:1px solid var(--line);font-weight:400}
thead th{color:var(--muted);font-size:.85rem}
.number-cell{text-align:right;white-space:nowrap}
th[scope=row]{min-width:5rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:.9rem}
figure{margin:0 0 1rem}
figcaption{display:flex;flex-wrap:wrap;gap:0 1rem;align-items:baseline;margin-bottom:.5rem}
figcaption p{margin:0}
.pictures{list-style:none;margin:0 0 .75rem;padding:0;display:grid;gap:.75rem;
grid-template-columns:repeat(4,minmax(0,1fr))}
.screen{position:relative;margin-bottom:.35rem;line-height:0}
.screen img{width:100%;height:auto;border-radius:.3rem;background:var(--cap)}
.absent{line-height:1.5;padding:1.5rem .5rem;text-align:center;color:var(--muted);
background:var(--cap);border-radius:.3rem}
.arrow{position:absolute;inset:0;width:100%;height:100%}
.arrow path{fill:none;stroke-linecap:round;stroke-linejoin:round}
.arrow .under{stroke:#000;stroke-width:8}.arrow .over{stroke:#ffd23f;stroke-width:4}
.arrow .head{fill:#ffd23f}
.number{display:inline-block;min-width:1.4em;text-align:center;border-radius:.3rem;
background:var(--accent);color:var(--card);font-size:.85rem;font-weight:600}
.when{font-variant-numeric:tabular-nums}.when .muted{display:inline-block;white-space:nowrap}
.caps{display:flex;flex-wrap:wrap;gap:.25rem;margin:.2rem 0}
kbd{font:inherit;font-size:.85rem;line-height:1.35;padding:.05rem .45rem;border-radius:.3rem;
border:1px solid var(--key);max-width:100%}
kbd.held{background:var(--key);color:var(--card)}
kbd.tapped{border-style:dashed}
.strips{display:grid;gap:3px}
.strip{display:grid;grid-template-columns:9rem minmax(0,1fr);gap:.6rem;align-items:center}
.strip .name{font-size:.85rem;line-height:1.2;text-align:right;min-width:0}
.strip small{display:block;color:var(--muted);font-size:.75rem;font-variant-numeric:tabular-nums}
.strip small span{display:inline-block}
.chart{display:block;width:100%;background:var(--card);border:1px solid var(--line)}
.card .chart{background:var(--page)}
.row{height:1.5rem}.tall{height:2.6rem}.thin-row{height:.9rem}.big{height:9rem}
.ticks{display:flex;justify-content:space-between;gap:.5rem;color:var(--muted);font-size:.8rem;
font-variant-numeric:tabular-nums}
.key{fill:var(--key)}.button{fill:var(--accent)}.mouse{fill:var(--mouse)}.axis{fill:var(--axis)}
path.bad{fill:var(--bad);stroke:var(--bad)}path.warn{fill:var(--warn);stroke:var(--warn)}
.bad,.warn{stroke-width:1;vector-effect:non-scaling-stroke}path.accent{fill:var(--accent)}
.shade1{opacity:.34}.shade2{opacity:.45}.shade3{opacity:.58}.shade4{opacity:.71}
.shade5{opacity:.85}
.line{fill:none;stroke:var(--text);stroke-width:2;vector-effect:non-scaling-stroke}
.thin{stroke:var(--muted);stroke-width:1}
.found{stroke:var(--accent);stroke-dasharray:6 4}
.curve{stroke:var(--key)}
details{margin:.5rem 0}
summary{cursor:pointer;padding:.25rem 0}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem;background:var(--card);
border:1px solid var(--line);border-radius:.4rem;padding:.75rem;margin:.25rem 0}
@media (max-width:640px){
.facts{grid-template-columns:repeat(2,minmax(0,1fr));gap:.5rem 1rem}
.pictures{grid-template-columns:repeat(2,minmax(0,1fr))}
.strip{grid-template-columns:5.2rem minmax(0,1fr);gap:.4rem}
.wide thead{display:none}
.wide tr{display:block;padding:.5rem 0;border-bottom:1px solid var(--line)}
.wide th,.wide td{display:block;border:0;padding:.05rem 0;text-align:left;white-space:normal}
.wide th{font-weight:600}
.wide td::before{content:attr(data-label) ": ";color:var(--muted)}
th,td{padding-right:.75rem}
}
@media print{body{background:#fff}figure{break-inside:avoid}}
"""
