// What scripts add to pages that work without them: the focus goes to what is wrong, an answer that says "unprocessable" or
// "conflict" is shown like any other, a button prints, a list that changes is asked for again, and a camera reads codes.
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
