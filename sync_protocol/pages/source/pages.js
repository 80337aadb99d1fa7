// What scripts add to pages that work without them: the focus goes to what is wrong, and an answer that says
// "unprocessable" or "conflict" is shown like any other. Nothing is stored in the browser.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const first = document.querySelector("[data-focus]");
  if (first) first.focus();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const status = event.detail.xhr.status;
  if (status === 422 || status === 409) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-print]");
  if (button) window.print();
});

// A list that changes while somebody looks: the server says "changed", and the list is asked for again.
document.addEventListener("DOMContentLoaded", () => {
  for (const live of document.querySelectorAll("[data-live]")) {
    const events = new EventSource(live.dataset.live);
    events.addEventListener("changed", () => htmx.trigger(live, "changed"));
    window.addEventListener("pagehide", () => events.close());
  }
});
