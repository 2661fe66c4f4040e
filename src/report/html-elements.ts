import type { StepResult } from "../walk/solve-sites.js";

/** What became of the sites of a step. */
export function stepTable(step: StepResult): string {
  const rows = step.sites.map((site) => {
    if (site.kind === "skipped") return [escapeHtml(site.label), "skipped", "", "", escapeHtml(site.reason)];
    const left = site.errorBefore > 0 ? site.errorAfter / site.errorBefore : 1;
    return [
      escapeHtml(site.label),
      site.errorBefore.toPrecision(3),
      site.errorAfter.toPrecision(3),
      `${bar100(left)} ${(100 * left).toFixed(1)} %`,
      escapeHtml(site.remark ?? ""),
    ];
  });
  return rawTable(["Layer", "Error before", "after", "left", "Remark"], rows);
}

/** Rows of plain text, or that there is nothing. */
export function reasonsTable(rows: readonly (readonly string[])[]): string {
  return rows.length === 0
    ? "<p>nothing</p>"
    : rawTable(
        [],
        rows.map((row) => row.map(escapeHtml)),
      );
}

/** A heading and what is under it. */
export function section(title: string, content: string): string {
  return `<h2>${escapeHtml(title)}</h2>\n${content}`;
}

/** @param rows cells of plain text */
export function table(rows: readonly (readonly string[])[]): string {
  return rawTable(
    [],
    rows.map((row) => row.map(escapeHtml)),
  );
}

/** @param rows cells of HTML */
export function rawTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const headRow = head.length > 0 ? `<tr>${head.map((cell) => `<th>${escapeHtml(cell)}</th>`).join("")}</tr>` : "";
  const body = rows.map((row) => `<tr>${row.map((cell) => `<td>${cell}</td>`).join("")}</tr>`);
  return `<table>${headRow}${body.join("\n")}</table>`;
}

/** A bar that is full at 1. */
export function bar100(share: number): string {
  const width = (100 * Math.min(share, 1)).toFixed(0);
  return `<svg width="100" height="9" role="img"><rect width="100" height="9" class="all"/><rect width="${width}" height="9" class="part"/></svg>`;
}

/** A page without script and network: nothing but what is in it. */
export function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { padding: 0.15rem 0.8rem 0.15rem 0; text-align: left; vertical-align: top; }
.all { fill: #ddd; } .part { fill: #2b6cb0; } .warning { color: #9c4221; }
</style>
</head>
<body>
${body}
</body>
</html>
`;
}

/** Text as it stands in HTML. */
export function escapeHtml(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => entities[character]);
}
