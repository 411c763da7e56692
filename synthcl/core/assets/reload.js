
(() => {
  const written = document.querySelector("[data-written]");
  const old = () => {
    const minutes = Math.floor((Date.now() / 1000 - Number(written.dataset.written)) / 60);
    written.textContent = minutes > 0 ? `${minutes} min ago` : "just now";
  };
  if (written) { old(); setInterval(old, 5000); }
  setInterval(() => { // not while somebody reads a tip or an opened list
    if (!document.hidden && !document.querySelector(".tip:not([hidden]), details[open]")) location.reload();
  }, RELOAD_SECONDS * 1000);
})();
