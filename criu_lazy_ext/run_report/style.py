"""The page's style sheet. Colours are named by what they stand for, in light and in dark."""

STYLE = """
:root { --ink: #1d2733; --dim: #66727f; --paper: #fff; --card: #f6f8fa; --rule: #d9dfe5;
  --runs: #2f9e73; --frozen: #d9534f; --restoring: #e39b3c; --follows: #3b78c2; --precopied: #7d62b5;
  --images: #a8763e; --daemon: #8a97a5; --demand: #c2578f; --zero: #b9c4ce; --dropped: #8a97a5;
  color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --dim: #97a3af; --paper: #14191f; --card: #1c232b;
  --rule: #323c47; --runs: #3fb186; --frozen: #e0655f; --restoring: #e0a24c; --follows: #5b93d8; --precopied: #9a80d0;
  --images: #bd8b52; --zero: #55616d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px; max-width: 1080px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
body:has(.of-2) { max-width: 1500px; }
main.of-2 { display: grid; grid-template-columns: 1fr 1fr; gap: 28px; }
article { min-width: 0; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 8px; }
header p { margin: 4px 0; color: var(--dim); overflow-wrap: anywhere; }
section { margin: 20px 0; }
svg { display: block; width: 100%; height: auto; margin-bottom: 6px; }
.badge { padding: 2px 9px; border-radius: 9px; color: #fff; background: var(--frozen); font-weight: 600; }
.badge.committed { background: var(--runs); } .badge.undecided { background: var(--restoring); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px; margin: 14px 0; }
.tiles div { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 12px; }
.tiles b { display: block; font-size: 20px; line-height: 1.3; } .tiles span { color: var(--dim); font-size: 12.5px; }
.legend { margin: 0; font-size: 12.5px; color: var(--dim); }
.legend span { margin-right: 18px; white-space: nowrap; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; }
.note { color: var(--dim); font-size: 13px; margin: -4px 0 8px; }
.warnings { margin: 0; padding: 10px 14px 10px 32px; background: var(--card); border-left: 4px solid var(--restoring); }
.warnings li { overflow-wrap: anywhere; }
table { border-collapse: collapse; } th { text-align: left; font-weight: 400; color: var(--dim); }
th, td { padding: 3px 26px 3px 0; border-bottom: 1px solid var(--rule); font-variant-numeric: tabular-nums; }
pre { margin: 0; padding: 10px 14px; background: var(--card); font-size: 12.5px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
footer { color: var(--dim); font-size: 12.5px; border-top: 1px solid var(--rule); padding-top: 10px; }
text { fill: var(--ink); font-size: 12px; } text.scale, text.note { fill: var(--dim); } text.on { fill: #fff; }
text.note { paint-order: stroke; stroke: var(--paper); stroke-width: 4px; }
.grid { stroke: var(--rule); stroke-width: 1; } .mark { stroke: var(--dim); stroke-dasharray: 5 4; }
.shade { fill: var(--frozen); opacity: .16; }
.area { opacity: .22; stroke: none; } .line { fill: none !important; stroke-width: 1.6; stroke-linejoin: round; }
@media (max-width: 760px) { main.of-2 { grid-template-columns: 1fr; } section { overflow-x: auto; }
  svg { min-width: 680px; } }
""" + "".join(
    f".{kind} {{ fill: var(--{kind}); background: var(--{kind}); }} .line.{kind} {{ stroke: var(--{kind}); }}\n"
    for kind in ("runs", "frozen", "restoring", "follows", "precopied", "images", "daemon", "demand", "zero", "dropped")
)
