// What scripts add to pages that work without them: the focus goes to what is wrong, an answer that says "unprocessable" or
// "conflict" is shown like any other, a button prints, what is typed is kept, a list that changes is asked for again, and a
// camera reads codes.
// Nothing is stored in the browser.
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

// What is typed into a form that says where its draft is kept (data-draft) is sent there while somebody types, and before
// anything leads away from the page: a button, a link, a server that wants somebody to unlock or sign in, a window that
// closes. What was kept, or why nothing was, is told by the server, in the place that the form names. A form that was sent
// keeps no draft more.
const PAUSE_MS = 1_500;
const FIELD_LEFT_MS = 300;
const AT_THE_LATEST_MS = 5_000; // of who types without a pause
const PATIENCE_MS = 3_000; // then they go on, whether or not the server has it
const OUTLIVING_CHARS = 60_000; // browsers send 64 KiB for a page that is gone; more may be cut off with it

const drafts = new Map(); // form → how often something was typed, how much of it is kept, and when it will be
let leaving = "no";

const isUnkept = (draft) => !draft.sent && draft.kept < draft.typed;
const pause = (ms) => new Promise((next) => setTimeout(next, ms));

const sendDraft = async (form, draft) => {
  clearTimeout(draft.timer);
  draft.dueMs = 0;
  const typed = draft.typed;
  draft.onItsWay = typed;
  const body = new URLSearchParams(new FormData(form)).toString();
  const answer = await fetch(form.dataset.draft, {
    method: "POST",
    body,
    keepalive: body.length < OUTLIVING_CHARS,
    headers: {
      "Content-Type": "application/x-www-form-urlencoded",
      "HX-Request": "true",
      "HX-Current-URL": location.href,
    },
  }).catch(() => null);
  draft.onItsWay = 0;
  if (isUnkept(draft) && (!answer || answer.status >= 500)) keepSoon(form, draft, AT_THE_LATEST_MS); // try again
  const told = document.getElementById(form.dataset.draftTold);
  if (told && answer) {
    told.classList.toggle("nhsuk-error-message", !answer.ok);
    told.classList.toggle("app-quiet", answer.ok);
  }
  if (told && answer && answer.status < 500 && !answer.ok) {
    const why = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("why");
    told.textContent = why ? why.textContent : "";
  }
  if (!answer || !answer.ok) return;
  draft.kept = Math.max(draft.kept, typed);
  const elsewhere = answer.headers.get("hx-redirect");
  if (elsewhere && leaving === "no") location.assign(elsewhere);
  else if (told && answer.status === 200) htmx.swap(told, await answer.text(), { swapStyle: "innerHTML" });
};

// One after the other, so that the last that was typed is the last that is kept.
const keepDraft = (form, draft) => {
  draft.sending = draft.sending.then(() => (isUnkept(draft) ? sendDraft(form, draft) : null)).catch(() => null);
  return draft.sending;
};

const keepSoon = (form, draft, ms) => {
  const nowMs = performance.now();
  draft.dueMs ||= nowMs + AT_THE_LATEST_MS;
  clearTimeout(draft.timer);
  draft.timer = setTimeout(() => keepDraft(form, draft), Math.min(ms, Math.max(0, draft.dueMs - nowMs)));
};

document.addEventListener("input", (event) => {
  const form = event.target.form;
  if (!form || !form.dataset.draft) return;
  const draft = drafts.get(form) || { typed: 0, kept: 0, onItsWay: 0, timer: 0, dueMs: 0, sending: Promise.resolve() };
  drafts.set(form, draft);
  draft.typed += 1;
  draft.sent = false;
  keepSoon(form, draft, PAUSE_MS);
});

document.addEventListener("change", (event) => {
  const draft = drafts.get(event.target.form);
  if (draft && isUnkept(draft)) keepSoon(event.target.form, draft, FIELD_LEFT_MS);
});

const keptFirst = async (event, goOn) => {
  if (leaving === "now") return;
  const unkept = [...drafts].filter(([, draft]) => isUnkept(draft));
  if (leaving === "no" && !unkept.length) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  if (leaving === "soon") return;
  leaving = "soon";
  await Promise.race([Promise.all(unkept.map(([form, draft]) => keepDraft(form, draft))), pause(PATIENCE_MS)]);
  leaving = "now";
  goOn();
  leaving = "no";
};

document.addEventListener("submit", (event) => {
  const form = event.target, button = event.submitter;
  if (form.method === "dialog") return;
  keptFirst(event, () => form.requestSubmit(button));
  const draft = drafts.get(form);
  if (!draft || event.defaultPrevented) return;
  clearTimeout(draft.timer);
  draft.sent = true;
}, true);

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const here = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (!link || !here || link.target || link.origin !== location.origin) return;
  if (link.hash && link.href.split("#")[0] === location.href.split("#")[0]) return;
  keptFirst(event, () => link.click());
}, true);

document.addEventListener("htmx:beforeOnLoad", (event) => {
  const elsewhere = event.detail.xhr.getResponseHeader("hx-redirect");
  if (elsewhere) keptFirst(event, () => location.assign(elsewhere));
});

const keepNow = () => {
  for (const [form, draft] of drafts) if (isUnkept(draft) && draft.onItsWay < draft.typed) sendDraft(form, draft);
};

window.addEventListener("beforeunload", keepNow);
window.addEventListener("pagehide", keepNow);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") keepNow();
});

// A list that changes while somebody looks: the server says "changed", and the list is asked for again. What came between
// the page and the connection, or between two connections, the server knows by what the page says it has seen. Where the
// connection ends for good the list is asked for once more (the session may have ended: the answer leads to the sign-in), it
// is said that it may be old, and the connection is tried again.
const AGAIN_MS = 10_000;

const watch = (live) => {
  const events = new EventSource(live.dataset.live);
  const away = (is) => {
    for (const told of document.querySelectorAll("[data-live-away]")) told.hidden = !is;
  };
  events.addEventListener("open", () => away(false));
  events.addEventListener("changed", () => htmx.trigger(live, "changed"));
  events.addEventListener("error", () => {
    if (events.readyState !== EventSource.CLOSED) return;
    away(true);
    htmx.trigger(live, "changed");
    setTimeout(() => watch(live), AGAIN_MS);
  });
  window.addEventListener("pagehide", () => events.close());
};

document.addEventListener("DOMContentLoaded", () => {
  for (const live of document.querySelectorAll("[data-live]")) watch(live);
});

// A code that is held before the camera is put into its box and sent. The button shows only where the browser reads codes
// and lets this page see, which is over HTTPS or on this computer itself.
const LOOK_MS = 150;

const readsCodes = async () =>
  window.isSecureContext && "BarcodeDetector" in window && Boolean(navigator.mediaDevices)
  && (await BarcodeDetector.getSupportedFormats()).includes("qr_code");

const scan = async (box, scanner) => {
  const video = scanner.querySelector("video");
  const refused = scanner.querySelector("[data-scanner-refused]");
  scanner.showModal();
  const camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).catch(() => null);
  video.hidden = !camera;
  refused.hidden = Boolean(camera);
  if (!camera) return;
  const detector = new BarcodeDetector({ formats: ["qr_code"] });
  try {
    video.srcObject = camera;
    await video.play();
    while (scanner.open) {
      const [found] = await detector.detect(video).catch(() => []);
      if (found && scanner.open) {
        box.value = found.rawValue;
        scanner.close();
        box.form.requestSubmit();
      }
      await new Promise((next) => setTimeout(next, LOOK_MS));
    }
  } finally {
    for (const track of camera.getTracks()) track.stop();
    video.srcObject = null;
  }
};

document.addEventListener("DOMContentLoaded", async () => {
  const buttons = document.querySelectorAll("[data-scan]");
  if (!buttons.length || !(await readsCodes())) return;
  for (const button of buttons) {
    button.hidden = false;
    button.addEventListener("click", () =>
      scan(document.getElementById(button.dataset.scan), document.querySelector("[data-scanner]")));
  }
});
