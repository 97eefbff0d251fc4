// Local time on hover, and a reload that leaves a reader alone.
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) time.title = at.toLocaleString();
}
const refresh = Number(document.body.dataset.refresh);
if (refresh > 0) {
  setInterval(() => {
    const busy = document.querySelector("details[open]") || String(getSelection());
    if (!document.hidden && !busy) location.reload();
  }, refresh * 1000);
}
