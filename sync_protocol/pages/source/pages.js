// What scripts add to pages that work without them: the focus goes to what is wrong, an answer that says "unprocessable" or
// "conflict" is shown like any other, a button prints, and a list that changes is asked for again. Nothing is stored in the
// browser.
"use strict";

const toWhatIsWrong = () => {
  const summary = document.querySelector(".nhsuk-error-summary");
  if (!summary) return false;
  summary.tabIndex = -1;
  summary.focus();
  return true;
};

document.addEventListener("DOMContentLoaded", () => {
  if (toWhatIsWrong()) return;
  const first = document.querySelector("[data-focus]");
  if (first) first.focus();
});

const wasRefused = (event) => Boolean(event.detail.xhr) && [409, 422].includes(event.detail.xhr.status);

document.addEventListener("htmx:afterSettle", (event) => {
  if (wasRefused(event)) toWhatIsWrong();
});

document.addEventListener("htmx:beforeSwap", (event) => {
  if (wasRefused(event)) {
    event.detail.shouldSwap = true;
    event.detail.isError = false;
  }
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) window.print();
});

// A list that changes while somebody looks: the server says "changed", and the list is asked for again. Where the server
// wants to hear no more (the session ended) it is asked for once, and its answer leads to the sign-in.
document.addEventListener("DOMContentLoaded", () => {
  for (const live of document.querySelectorAll("[data-live]")) {
    const events = new EventSource(live.dataset.live);
    events.addEventListener("changed", () => htmx.trigger(live, "changed"));
    events.addEventListener("error", () => {
      if (events.readyState === EventSource.CLOSED) htmx.trigger(live, "changed");
    });
    window.addEventListener("pagehide", () => events.close());
  }
});
