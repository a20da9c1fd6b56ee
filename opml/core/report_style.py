"""The report's style sheet: light or dark as the reader's system is; the colours can be told apart by colour-blind readers."""

STYLE = """
:root{--paper:#fff;--ink:#1c2329;--soft:#5c6873;--rule:#dfe4e8;--card:#f6f8f9;--good:#00734d;--bad:#b3400a;
--c1:#0072b2;--c2:#d55e00;--c3:#009e73;--c4:#b07a00;--c5:#9b4f86;--c6:#4a4a4a}
@media(prefers-color-scheme:dark){:root{--paper:#14181c;--ink:#e8ecef;--soft:#9aa7b2;--rule:#2e363d;--card:#1d2329;--good:#3fc79a;
--bad:#ff9a62;--c1:#56b4e9;--c2:#ff8f4d;--c3:#2fc79b;--c4:#e6b84c;--c5:#d995c0;--c6:#c0c8ce}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:920px;margin:0 auto;padding:28px 24px 60px}h1{font-size:24px;margin:0 0 18px}h2{font-size:18px;margin:0}
section{margin-top:38px}section>p{color:var(--soft);margin:2px 0 12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:12px 14px;display:flex;flex-direction:column}
.tile b{font-size:22px;line-height:1.2}.tile span{color:var(--soft)}.tile i{font-style:normal;font-size:13px;color:var(--soft)}
.tile.good b{color:var(--good)}.tile.bad b{color:var(--bad)}
table{border-collapse:collapse;width:100%;font-size:14px}th{text-align:left;color:var(--soft);font-weight:500}
th,td{padding:7px 10px 7px 0;border-bottom:1px solid var(--rule);vertical-align:top}
.fired td:nth-child(-n+2){color:var(--bad);font-weight:600}.quiet td:nth-child(2){color:var(--good)}
details .quiet td:nth-child(2){color:var(--soft)}.do{color:var(--soft);margin-top:2px}
details{margin-top:12px}summary{cursor:pointer;color:var(--soft)}.none{color:var(--soft);font-style:italic}
svg{width:100%;height:auto;display:block;margin:4px 0}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
.grid{stroke:var(--rule)}.line{fill:none;stroke-width:1.6}.limit{stroke:var(--c2);stroke-dasharray:4 3}
svg .name{fill:var(--ink)}svg .inside{fill:var(--paper);font-weight:600}.cell{fill:var(--c1)}
.line.c1{stroke:var(--c1)}.line.c2{stroke:var(--c2)}.line.c3{stroke:var(--c3)}.line.c4{stroke:var(--c4)}
.bar.c1,.dot.c1{fill:var(--c1)}.bar.c2,.dot.c2{fill:var(--c2)}.bar.c3{fill:var(--c3)}.bar.c4{fill:var(--c4)}
svg .f1{fill:var(--c1)}svg .f2{fill:var(--c2)}
"""
