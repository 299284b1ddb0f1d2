// The live page asks for its changing part again whenever the feed says that there is news, and every few seconds.
(() => {
  "use strict";
  const main = document.getElementById("live");
  const status = document.getElementById("status");
  const text = document.getElementById("status-text");
  const PACE_MS = 500, IDLE_MS = 3000;
  let busy = false, again = false, timer = 0;

  const say = (state, words) => {
    if (status.dataset.state === state) return;
    status.dataset.state = state;
    text.textContent = words;
  };

  const ids = () => new Map([...main.querySelectorAll("[data-id]")].map((e) => [e.dataset.id, e.dataset.version]));

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    clearTimeout(timer);
    try {
      const answer = await fetch("/?part=live", { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(answer.status);
      const before = ids();
      const focused = document.activeElement?.getAttribute("href");
      main.innerHTML = await answer.text(); // escaped by the server, which renders every part of the page
      for (const one of main.querySelectorAll("[data-id]")) {
        if (!before.has(one.dataset.id)) one.classList.add("new");
        else if (before.get(one.dataset.id) !== one.dataset.version) one.classList.add("changed");
      }
      if (focused) main.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
      if (feed.readyState === EventSource.OPEN) say("live", "Live");
    } catch {
      say("lost", "Reconnecting");
    }
    busy = false;
    timer = setTimeout(refresh, again ? 0 : IDLE_MS);
    again = false;
  }

  const feed = new EventSource(`/live?pace_ms=${PACE_MS}`);
  feed.addEventListener("open", refresh);
  feed.addEventListener("changes", refresh);
  feed.addEventListener("restart", refresh);
  feed.addEventListener("error", () => {
    say("lost", "Reconnecting");
    // A browser gives up for good where it was refused: the page goes on by asking now and then.
    if (feed.readyState === EventSource.CLOSED) say("polling", "Every 3 s");
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
