"""The style sheet of the page: light and dark, phone and print, no outside resource."""

from __future__ import annotations

from ...contract import Control
from .plots import COLORS


def _variables(which: int) -> str:
    return " ".join(f"--{name}: {tones[which]};" for name, tones in COLORS.items())


_DOTS = "\n".join(f".dot.{level} {{ background: var(--{level}); }}" for level in Control)

CSS = f"""
:root {{ color-scheme: light dark; {_variables(0)} --paper: #fff; --panel: #f6f6f7; }}
@media (prefers-color-scheme: dark) {{ @media screen {{
  :root {{ {_variables(1)} --panel: #1f1f22; }}
}} }}
* {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; }}
body {{ margin: 0 auto; max-width: 1080px; padding: 2.5rem 1.25rem 5rem; background: var(--paper);
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "Liberation Sans", sans-serif; }}
h1 {{ font-size: 2rem; line-height: 1.15; margin: 0 0 .6rem; letter-spacing: -.015em;
  overflow-wrap: anywhere; }}
h2 {{ font-size: 1.35rem; line-height: 1.25; margin: 3.2rem 0 .4rem; letter-spacing: -.01em; }}
h3 {{ font-size: 1.05rem; margin: 1.8rem 0 .3rem; overflow-wrap: anywhere; }}
p {{ margin: .4rem 0 .8rem; max-width: 76ch; }}
small, .note, figcaption, .legend {{ color: var(--muted); font-size: .875rem; }}
.kicker {{ color: var(--muted); font-size: .875rem; margin: 0 0 .3rem; }}
code, pre, .tokens {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono",
  monospace; font-size: .84rem; }}
pre {{ background: var(--panel); border-radius: 6px; padding: .7rem .9rem; white-space: pre-wrap;
  overflow-wrap: anywhere; margin: .4rem 0 1rem; }}
.verdict {{ background: var(--panel); border-radius: 10px; padding: 1.1rem 1.3rem 1rem;
  margin: 1rem 0; }}
.warning {{ background: var(--panel); border-left: 4px solid var(--root); padding: .7rem 1rem;
  overflow-wrap: anywhere; }}
.verdict h3 {{ margin: 0; font-weight: 500; color: var(--muted); }}
.verdict .kind {{ font-size: 1.5rem; line-height: 1.25; font-weight: 650; margin: .1rem 0 .8rem;
  letter-spacing: -.01em; }}
.verdict .kind::first-letter {{ text-transform: uppercase; }}
.facts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(168px, 1fr)); gap: .9rem 1.4rem;
  margin: 0 0 .9rem; }}
.facts dt {{ font-size: .875rem; color: var(--muted); }}
.facts dd {{ margin: 0; }}
.facts b {{ display: block; font-size: 1.5rem; font-weight: 600; line-height: 1.3;
  font-variant-numeric: tabular-nums; }}
.facts dd span {{ font-size: .875rem; overflow-wrap: anywhere; }}
.verdict ul {{ margin: .3rem 0 .6rem; padding-left: 1.1rem; font-size: .925rem; max-width: 92ch; }}
.panels {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr));
  gap: 1.8rem 2.5rem; margin: .8rem 0 1.2rem; align-items: start; }}
figure {{ margin: 0; break-inside: avoid; }}
figure > svg {{ display: block; width: 100%; height: auto; overflow: visible; }}
figure > svg text {{ font-family: inherit !important; }}
figcaption {{ color: var(--ink); font-weight: 600; margin-bottom: .3rem; }}
.legend {{ list-style: none; margin: .3rem 0 0; padding: 0; display: flex; flex-wrap: wrap;
  gap: .1rem 1.1rem; }}
.legend li {{ display: flex; align-items: center; gap: .4rem; overflow-wrap: anywhere; }}
.key {{ position: relative; flex: none; display: inline-block; min-width: 32px; line-height: 1; text-align: center; margin-right: .4em; }}
.key i {{ position: absolute; left: 0; right: 0; top: 50%; border-top: 2px solid; }}
.key .dash1, .key .dash3 {{ border-top-style: dashed; }} .key .dash2, .key .dash4 {{ border-top-style: dotted; }}
.dot {{ display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; background: var(--muted); }}
{_DOTS}
.band {{ flex: none; width: 32px; height: 6px; border-radius: 3px; background: var(--muted);
  opacity: .4; }}
.skip {{ position: absolute; left: -999rem; }} .skip:focus {{ left: 1rem; top: .5rem; }}
a {{ color: var(--reset); }}
nav ol {{ display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: 1rem 0; padding: .6rem 0; list-style: none;
  font-size: .875rem; border-block: 1px solid var(--line); }}
h2[id], h3[id] {{ scroll-margin-top: 1rem; }}
:focus-visible {{ outline: 2px solid var(--reset); outline-offset: 2px; }}
.unseen {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }}
caption {{ text-align: left; color: var(--muted); padding-bottom: .3rem; }}
.wide {{ overflow-x: auto; margin: .6rem 0 1.2rem; position: relative; }}
.wide :is(th, td):first-child {{ position: sticky; left: 0; background: var(--paper); z-index: 1; }}
.verdict .wide :is(th, td):first-child {{ background: var(--panel); }}
tbody th {{ font-weight: inherit; border-bottom-color: var(--line); vertical-align: baseline; }}
table {{ border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .28rem .9rem .28rem 0; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); vertical-align: baseline; }}
th {{ font-weight: 600; border-bottom-color: var(--muted); vertical-align: bottom; white-space: normal; }}
th.text, td.text {{ text-align: left; }}
.dense th, .dense td {{ padding-right: .4rem; font-size: .8rem; }}
.halves :is(th, td):nth-child(6) {{ padding-left: .8rem; border-left: 1px solid var(--line); }}
td .prose, th .prose {{ white-space: normal; min-width: 15rem; max-width: 30rem; }}
.dense td .prose, th .prose {{ min-width: 0; max-width: 13rem; }}
td small, th small {{ font-size: .92em; }}
tr.group th {{ border-bottom-color: var(--line); padding-top: .9rem; font-weight: 600; }}
.tokens {{ display: flex; flex-wrap: wrap; gap: 4px; margin: .5rem 0 .3rem; }}
.tokens span {{ display: inline-flex; flex-direction: column; align-items: center; padding: .2rem .4rem;
  border-radius: 4px; white-space: pre; line-height: 1.3; max-width: 100%; overflow: hidden; }}
.tokens small {{ color: var(--ink); font-size: .7rem; }}
.levels {{ margin: .4rem 0; padding: 0; list-style: none; max-width: 92ch; }}
.levels li {{ margin: .15rem 0; }}
.out {{ font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: .82rem; white-space: pre-wrap; overflow-wrap: anywhere; }}
.yes {{ color: var(--chosen); font-weight: 600; }}
.no {{ color: var(--muted); }}
.off {{ color: var(--root); font-weight: 600; }}
@media (max-width: 600px) {{ body {{ padding-top: 1.4rem; }} h1 {{ font-size: 1.55rem; }}
  .verdict {{ padding: .9rem 1rem; }} .verdict .kind {{ font-size: 1.25rem; }} }}
@media print {{ body {{ max-width: none; padding: 0; font-size: 10.5pt; }}
  .wide {{ overflow: visible; }} table {{ font-size: 7.5pt; }} tr, .verdict, pre {{ break-inside: avoid; }}
  h2, h3 {{ break-after: avoid; }} .panels {{ grid-template-columns: 1fr 1fr; }}
  th, td {{ padding-right: .5rem; }} }}
"""
