// Photos are sent one by one, a few at a time, and then made a job. Without JavaScript the form sends them together.
"use strict";

const AT_ONCE = 4; // photos on their way
const ASKED = 100; // uploads asked for at a time: their addresses expire within the hour
const WAITS_MS = [1000, 3000, 9000]; // before a photo is tried again
const LISTED = 100; // names of photos that could not be sent
const PASSING = [0, 408, 429, 500, 502, 503, 504]; // answers after which a photo is tried again; 0: none came
const NO_PHOTOS = /(^|\/)(\.[^/]*|Thumbs\.db|desktop\.ini)$/i; // what folders hold besides

const form = document.getElementById("drop");
const limits = { bytes: Number(form.dataset.bytes), photos: Number(form.dataset.photos) };
const token = form.elements.form_token.value;
const number = (count) => count.toLocaleString();
const photos = (count) => (count === 1 ? "1 photo" : `${number(count)} photos`);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function size(bytes) {
  const units = ["KB", "MB", "GB", "TB"];
  const step = Math.max(1, Math.floor(Math.log(Math.max(bytes, 1)) / Math.log(1000)));
  const value = bytes / 1000 ** step;
  return `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 })} ${units[step - 1]}`;
}

function left(seconds) {
  if (seconds >= 5400) return `about ${Math.round(seconds / 3600)} h left`;
  if (seconds >= 90) return `about ${Math.round(seconds / 60)} min left`;
  return seconds > 40 ? "about a minute left" : "less than a minute left";
}

// What was refused, in the server's words.
function refusal(status, text) {
  try {
    const { detail } = JSON.parse(text);
    return `${detail[0].toUpperCase()}${detail.slice(1)}.`;
  } catch {
    return status ? `The server answered ${status}.` : "The server cannot be reached.";
  }
}

class Refused extends Error {}

async function post(path, body, headers = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "X-Form-Token": token, Accept: "application/problem+json", ...headers },
      body,
    });
  } catch {
    throw new Refused(refusal(0, ""));
  }
  if (!answer.ok) throw new Refused(refusal(answer.status, await answer.text()));
  return answer;
}

// Photos become a job: each has a file, a name and, once it has arrived, an upload.
class Sending {
  constructor(photos, name, show) {
    this.photos = photos;
    this.name = name;
    this.show = show;
    this.key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16)).join("");
    this.uploads = []; // that were asked for and not used
    this.going = new Map(); // requests on their way, and how many bytes of each
    this.stopped = false;
    this.count();
  }

  count() {
    const sum = (photos) => photos.reduce((bytes, { file }) => bytes + file.size, 0);
    const arrived = this.photos.filter(({ upload }) => upload);
    this.arrived = arrived.length;
    this.arrivedBytes = sum(arrived);
    this.total = sum(this.photos);
  }

  // Goes on without what has not arrived.
  forgetOthers() {
    this.photos = this.photos.filter(({ upload }) => upload);
    this.count();
  }

  stop() {
    this.stopped = true;
    for (const request of this.going.keys()) request.abort();
  }

  // Sends what has not arrived yet. Returns what could not be sent: {name, why, passing}. Rejects with Refused.
  async send() {
    this.stopped = false;
    this.begun = performance.now();
    this.before = this.arrivedBytes;
    const waiting = this.photos.filter(({ upload }) => !upload);
    const failed = [];
    this.tell();
    const lane = async () => {
      while (waiting.length > 0 && !this.stopped) {
        const photo = waiting.shift();
        const failure = await this.sendOne(photo);
        if (failure) failed.push({ name: photo.name, ...failure });
        this.tell();
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, lane));
    return failed;
  }

  async sendOne(photo) {
    for (let tries = 0; ; tries += 1) {
      const upload = await this.upload();
      if (this.stopped) return null;
      const { status, text } = await this.put(upload.path, photo.file);
      if (status === 204) {
        photo.upload = upload.id;
        this.arrived += 1;
        this.arrivedBytes += photo.file.size;
        return null;
      }
      const expired = text.includes("upload_url_expired");
      if (expired) this.uploads = [];
      const passing = expired || PASSING.includes(status);
      if (this.stopped || !passing || tries === WAITS_MS.length) return { why: refusal(status, text), passing };
      await pause(WAITS_MS[tries]);
    }
  }

  // One of the uploads that were asked for last; they are asked for once, however many wait. Rejects with Refused.
  async upload() {
    while (this.uploads.length === 0) {
      this.asking ??= post(`/uploads?count=${Math.min(ASKED, this.photos.length)}`)
        .then((answer) => answer.json())
        .then(({ uploads }) => { this.uploads = uploads; })
        .finally(() => { this.asking = null; });
      await this.asking;
    }
    return this.uploads.shift();
  }

  put(path, file) {
    return new Promise((done) => {
      const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
      request.open("PUT", path);
      request.upload.onprogress = ({ loaded }) => { this.going.set(request, loaded); this.tell(); };
      request.onloadend = () => {
        this.going.delete(request);
        done({ status: request.status, text: request.responseText });
      };
      this.going.set(request, 0);
      request.send(file);
    });
  }

  tell() {
    const bytes = [...this.going.values()].reduce((sum, loaded) => sum + loaded, this.arrivedBytes);
    const seconds = (performance.now() - this.begun) / 1000;
    const rest = seconds > 3 ? ((this.total - bytes) * seconds) / Math.max(bytes - this.before, 1) : null;
    this.show({ arrived: this.arrived, of: this.photos.length, bytes, total: this.total, rest });
  }

  // The address of the job of what has arrived. Asked again, it is the same job. Rejects with Refused.
  async submit() {
    const items = this.photos.map(({ upload, name }) => ({ upload, custom_id: name }));
    const headers = { "Content-Type": "application/json", "Idempotency-Key": this.key };
    return (await post("/jobs", JSON.stringify({ name: this.name, items }), headers)).url;
  }
}

// What was dropped: files, and folders with all that is in them. Must be called while the event lasts.
function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) return Promise.resolve({ files: named([...transfer.files]), name: "" });
  const name = entries.length === 1 && entries[0].isDirectory ? entries[0].name : "";
  return Promise.all(entries.map((entry) => within(entry, true))).then((found) => ({ files: found.flat(), name }));
}

const named = (files) => files.map((file) => ({ file, name: tidy(file.webkitRelativePath || file.name) }));
const tidy = (name) => (name.toWellFormed?.() ?? name).slice(-1024);

async function within(entry, chosen) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed)).catch(() => null);
    const name = tidy(entry.fullPath.replace(/^\//, ""));
    return file && (chosen || !NO_PHOTOS.test(name)) ? [{ file, name }] : [];
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader gives some at a time
    const some = await new Promise((done) => reader.readEntries(done, () => done([])));
    if (some.length === 0) break;
    for (const one of some) found.push(...(await within(one, false)));
  }
  return found;
}

// Which files are sent, and which are not and why.
function sorted(files) {
  const wanted = [];
  const spared = [];
  for (const { file, name } of files) {
    const inFolder = name.includes("/");
    let why = "";
    if (file.size === 0) why = "The file is empty.";
    else if (file.size > limits.bytes) why = `The file has ${size(file.size)}, more than ${size(limits.bytes)}.`;
    else if (inFolder && !file.type.startsWith("image/")) why = "This is not a photo.";
    else if (wanted.length === limits.photos) why = `More than ${photos(limits.photos)}: send it with the next job.`;
    if (why) spared.push({ name, why });
    else wanted.push({ file, name });
  }
  return { wanted, spared };
}

// The drop zone, and what it says.
const zone = {
  sending: document.getElementById("sending"),
  problems: document.getElementById("problems"),
  spoken: document.getElementById("spoken"),
  current: null,

  async take({ files, name }) {
    if (this.current || files.length === 0) return;
    const { wanted, spared } = sorted(files);
    this.problems.hidden = true;
    if (wanted.length === 0) this.explain("Nothing was sent", spared, []);
    else await this.run(new Sending(wanted, name, (news) => this.progress(news)), spared);
  },

  async run(sending, spared) {
    this.current = sending;
    this.busy(true);
    this.spoken.textContent = `Sending ${photos(sending.photos.length)}.`;
    let [failed, why, url] = [[], "", ""];
    try {
      failed = await sending.send();
      if (failed.length === 0 && !sending.stopped) url = await this.submit(sending);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      why = error.message;
    }
    const stopped = sending.stopped;
    sending.stop();
    this.current = null;
    this.busy(false);
    if (url && spared.length === 0) location.assign(url);
    else if (url) this.explain(`${photos(sending.arrived)} sent, ${number(spared.length)} left out`, spared, [["Show the job", url]]);
    else this.offer(sending, stopped ? [] : failed, spared, why, stopped);
  },

  submit(sending) {
    this.sending.querySelector(".count").textContent = "Making the job…";
    return sending.submit();
  },

  // Nothing is lost: what has arrived is kept, and the rest can be sent again.
  offer(sending, failed, spared, why, stopped) {
    const again = () => {
      this.problems.hidden = true;
      this.run(sending, spared);
    };
    const without = () => {
      sending.forgetOthers();
      again();
    };
    const ways = [];
    if (stopped) ways.push(["Go on", again]);
    else if (why || failed.some(({ passing }) => passing)) ways.push(["Try again", again]);
    if (failed.length > 0 && sending.arrived > 0) ways.push([`Scan the other ${number(sending.arrived)}`, without]);
    let title = failed.length > 0 ? `${photos(failed.length)} could not be sent` : "No job was made yet";
    if (stopped) title = `Stopped: ${number(sending.arrived)} of ${photos(sending.photos.length)} sent`;
    this.explain(title, [...failed, ...spared], ways, why);
  },

  explain(title, list, ways, why = "") {
    this.problems.querySelector("h2").textContent = title;
    this.problems.querySelector(".why").textContent = why;
    const rows = list.slice(0, LISTED).map(({ name, why }) => {
      const row = document.createElement("li");
      const bold = document.createElement("b");
      bold.textContent = name;
      row.append(bold, ` ${why}`);
      return row;
    });
    if (list.length > LISTED) {
      const row = document.createElement("li");
      row.textContent = `And ${number(list.length - LISTED)} more.`;
      rows.push(row);
    }
    this.problems.querySelector("ul").replaceChildren(...rows);
    this.problems.querySelector(".actions").replaceChildren(...ways.map(([word, what]) => {
      const way = document.createElement(typeof what === "string" ? "a" : "button");
      if (typeof what === "string") way.href = what;
      else way.addEventListener("click", what);
      way.className = "button";
      way.textContent = word;
      return way;
    }));
    this.problems.hidden = false;
    this.problems.focus();
  },

  progress({ arrived, of, bytes, total, rest }) {
    this.sending.querySelector(".count").textContent = `${number(arrived)} of ${photos(of)} sent`;
    const told = [`${size(bytes)} of ${size(total)}`, rest === null ? "" : left(rest)];
    this.sending.querySelector(".rest").textContent = told.filter(Boolean).join(" · ");
    const bar = this.sending.querySelector("progress");
    bar.max = total;
    bar.value = bytes;
  },

  busy(is) {
    form.classList.toggle("busy", is);
    this.sending.hidden = !is;
    if (is) this.sending.querySelector(".count").textContent = "Sending…";
    else form.reset();
  },
};

function listen() {
  const files = document.getElementById("files");
  const folder = document.getElementById("folder");
  let depth = 0; // dragenter and dragleave also fire for children
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
    dropped(event.dataTransfer).then((found) => zone.take(found));
  });
  files.addEventListener("change", () => zone.take({ files: named([...files.files]), name: "" }));
  folder.addEventListener("change", () => {
    const found = named([...folder.files]).filter(({ name }) => !NO_PHOTOS.test(name));
    zone.take({ files: found, name: found[0]?.name.split("/")[0] ?? "" });
  });
  document.getElementById("choose-folder").addEventListener("click", () => folder.click());
  document.getElementById("stop").addEventListener("click", () => zone.current?.stop());
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("beforeunload", (event) => { if (zone.current) event.preventDefault(); });
  form.classList.add("live");
}

listen();
