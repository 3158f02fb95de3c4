// What the pages do better with JavaScript. Everything works without it.
"use strict";

const LIVE_FIRST_MS = 700;
const LIVE_LATER_MS = 3000;
const LIVE_SOON = 60; // looks before the later pace

function localTimes(root) {
  const form = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = form.format(new Date(time.dateTime));
  }
}

// Dropping or choosing photos sends the form.
function dropZone(form) {
  const input = form.querySelector("input[type=file]");
  const sending = form.querySelector("#sending");
  let depth = 0; // dragenter and dragleave also fire for children
  form.classList.add("live");

  const hover = (step) => {
    depth = step === 0 ? 0 : depth + step;
    form.classList.toggle("over", depth > 0);
  };
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("dragenter", (event) => { event.preventDefault(); hover(1); });
  addEventListener("dragleave", () => hover(-1));
  addEventListener("drop", (event) => {
    event.preventDefault();
    hover(0);
    if (event.dataTransfer.files.length > 0) {
      input.files = event.dataTransfer.files;
      form.requestSubmit();
    }
  });
  input.addEventListener("change", () => { if (input.files.length > 0) form.requestSubmit(); });
  form.addEventListener("submit", () => {
    const count = input.files.length;
    sending.textContent = count === 1 ? "Sending 1 photo…" : `Sending ${count} photos…`;
    sending.hidden = false;
    form.classList.add("busy");
  });
  // The back button brings the page as it was left.
  addEventListener("pageshow", () => { sending.hidden = true; form.classList.remove("busy"); form.reset(); });
}

// Replaces what has changed, and leaves the rest alone: pictures do not flicker, focus stays.
function refresh(page) {
  for (const part of page.querySelectorAll("#headline, #photos > li[id]")) {
    const shown = document.getElementById(part.id);
    if (!shown) {
      document.getElementById("photos").append(part);
    } else if (shown.outerHTML !== part.outerHTML) {
      shown.replaceWith(part);
    }
  }
}

function follow(job) {
  let looks = 0;
  const look = async () => {
    looks += 1;
    let running = true;
    try {
      const answer = document.hidden ? null : await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer && answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        localTimes(page);
        refresh(page);
        running = page.getElementById("job").hasAttribute("data-running");
      }
    } catch {
      // The API is being restarted: look again.
    }
    if (running) setTimeout(look, looks < LIVE_SOON ? LIVE_FIRST_MS : LIVE_LATER_MS);
    else job.removeAttribute("data-running");
  };
  setTimeout(look, LIVE_FIRST_MS);
}

localTimes(document);
const drop = document.getElementById("drop");
if (drop) dropZone(drop);
const running = document.querySelector("#job[data-running]");
if (running) follow(running);
