// Draws attention maps into `root`: one layer and head at a time, as a matrix or as lines from queries to keys.
//
// Three ideas, kept apart: `decode` turns the page's data into numbers, a view (`matrix`, `lines`) lays them out,
// paints them and finds the cell under a point, and `mount` holds the state and listens.

const FONT = 13;
const LABEL = 150; // the widest label drawn, in pixels; the reading beside the plot has it whole
const GAP = 8;
const NUMBERED = 12; // up to so many queries and keys, cells carry their numbers
const LISTED = 8;

// -- data ------------------------------------------------------------------------------------------------------------

function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
}

/** The heads of one map: rows[query][key], the mean of all heads last. */
function decode(map) {
  const [queries, keys] = [map.queries.length, map.keys.length];
  const steps = new Float32Array(bytes(map.steps));
  const counts = new Int16Array(bytes(map.counts));
  const heads = Array.from({ length: map.heads }, (_, head) =>
    Array.from({ length: queries }, (_, query) => {
      const row = head * queries + query;
      return Float32Array.from(counts.subarray(row * keys, (row + 1) * keys), (count) => count * steps[row]);
    }),
  );
  const mean = Array.from({ length: queries }, (_, query) =>
    Float32Array.from({ length: keys }, (_, key) => heads.reduce((sum, head) => sum + head[query][key], 0) / map.heads),
  );
  return [...heads, mean];
}

function largest(numbers) {
  return numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
}

// -- painting --------------------------------------------------------------------------------------------------------

/** Colours of the scheme in force, as the browser resolves them. */
function palette(probe) {
  const resolve = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const names = ["ink", "muted", "edge", "row", "low", "high-1", "high-2", "high-3", "high-4"];
  const below = ["below-1", "below-2", "below-3", "below-4"];
  const colours = Object.fromEntries([...names, ...below].map((name) => [name, resolve(name)]));
  const channels = (name) => colours[name].match(/[\d.]+/g).slice(0, 3).map(Number);
  const ramp = (side) => [channels("low"), ...[1, 2, 3, 4].map((step) => channels(`${side}-${step}`))];
  return { ...colours, high: ramp("high"), below: ramp("below") };
}

/** Red, green and blue of a weight, where `top` is the largest magnitude in the picture. */
function shade(weight, top, colours) {
  const stops = weight < 0 ? colours.below : colours.high;
  const place = Math.min(Math.abs(weight) / (top || 1), 1) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  return stops[index].map((low, channel) => Math.round(low + (stops[index + 1][channel] - low) * (place - index)));
}

const stroke = (weight, colours) => (weight < 0 ? colours["below-3"] : colours["high-3"]);
const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
const isPale = ([red, green, blue]) => 0.299 * red + 0.587 * green + 0.114 * blue > 140;

/** A canvas of the given size in CSS pixels, sharp on this screen, cleared. */
function prepare(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  [canvas.style.width, canvas.style.height] = [`${width}px`, `${height}px`];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.font = `${FONT}px ${getComputedStyle(document.body).fontFamily}`;
  pen.textBaseline = "middle";
  return pen;
}

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" });

function shorten(pen, label) {
  if (pen.measureText(label).width <= LABEL) return label;
  const parts = Array.from(letters.segment(label), (part) => part.segment);
  // The mark keeps the ellipsis at the end of right-to-left text, which is its left.
  const mark = /^[\p{Script=Arabic}\p{Script=Hebrew}]/u.test(label) ? "\u200f" : "";
  while (parts.length && pen.measureText(parts.join("") + "…").width > LABEL) parts.pop();
  return parts.join("") + "…" + mark;
}

function write(pen, text, x, y, { align = "left", colour, bold = false, turn = 0 }) {
  pen.save();
  pen.translate(x, y);
  pen.rotate(turn);
  pen.fillStyle = colour;
  pen.textAlign = align;
  if (bold) pen.font = `600 ${pen.font}`;
  pen.fillText(text, 0, 0);
  pen.restore();
}

// -- views -----------------------------------------------------------------------------------------------------------
// A view is made from (pen, map, room): it measures its labels and knows its `width` and `height`, paints the weights
// (`base`), paints what is being read on top (`cursor`), and says which cell is under a point (`at`).

function matrix(pen, map, room) {
  const [queries, keys] = [map.queries.map((text) => shorten(pen, text)), map.keys.map((text) => shorten(pen, text))];
  const widths = keys.map((text) => pen.measureText(text).width);
  const left = Math.max(...queries.map((text) => pen.measureText(text).width)) + GAP;
  const longest = Math.max(keys.length, queries.length);
  const fitting = Math.floor((room - left - Math.max(...widths) * 0.7) / keys.length);
  const cell = Math.max(longest <= 64 ? 16 : 2, Math.min(40, fitting));
  const slanted = Math.max(...widths) > cell - 4;
  const top = slanted ? Math.max(...widths) * Math.SQRT1_2 + FONT + GAP : FONT + 2 * GAP;
  const reach = keys.map((_, key) => (key + 1) * cell + (slanted ? widths[key] * Math.SQRT1_2 : 0));
  const stride = Math.ceil(FONT / cell); // where rows are thinner than letters, every stride-th label
  const [across, down] = [keys.length * cell, queries.length * cell];

  function labels(pen, colour) {
    for (let query = 0; query < queries.length; query += stride)
      write(pen, queries[query], left - GAP, top + (query + 0.5) * cell, { align: "right", colour });
    for (let key = 0; key < keys.length; key += stride) {
      const middle = left + (key + 0.5) * cell;
      if (slanted) write(pen, keys[key], middle, top - GAP, { colour, turn: -Math.PI / 4 });
      else write(pen, keys[key], middle, top - GAP - FONT / 2, { align: "center", colour });
    }
  }

  return {
    width: Math.ceil(left + Math.max(...reach) + 4),
    height: Math.ceil(top + down + 2),

    base(pen, rows, colours, most) {
      // One pixel a weight, then enlarged: as quick for 512 rows as for five.
      const small = new OffscreenCanvas(keys.length, queries.length);
      const image = new ImageData(keys.length, queries.length);
      const fills = rows.map((row) => Array.from(row, (weight) => shade(weight, most, colours)));
      fills.flat().forEach((fill, index) => image.data.set([...fill, 255], 4 * index));
      small.getContext("2d").putImageData(image, 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(small, left, top, across, down);
      pen.strokeStyle = colours.edge;
      pen.strokeRect(left - 0.5, top - 0.5, across + 1, down + 1);
      labels(pen, colours.ink);
      if (cell < 32 || longest > NUMBERED) return;
      pen.font = pen.font.replace(`${FONT}px`, "11px");
      rows.forEach((row, query) =>
        row.forEach((weight, key) => {
          const colour = isPale(fills[query][key]) ? "#1b1f24" : "#ffffff";
          const [x, y] = [left + (key + 0.5) * cell, top + (query + 0.5) * cell];
          write(pen, weight.toFixed(2), x, y, { align: "center", colour });
        }),
      );
    },

    cursor(pen, rows, colours, most, { query, key }) {
      pen.strokeStyle = colours.row;
      pen.lineWidth = 1;
      if (query !== null) pen.strokeRect(left - 1.5, top + query * cell - 0.5, across + 3, cell + 1);
      if (key !== null) pen.strokeRect(left + key * cell - 0.5, top - 1.5, cell + 1, down + 3);
      pen.lineWidth = 3;
      if (query !== null && key !== null) pen.strokeRect(left + key * cell, top + query * cell, cell, cell);
    },

    at(x, y) {
      const [query, key] = [Math.floor((y - top) / cell), Math.floor((x - left) / cell)];
      const inside = (index, labels) => (index >= 0 && index < labels.length ? index : null);
      return { query: inside(query, queries), key: inside(key, keys) };
    },
  };
}

function lines(pen, map, room, { solid, dashed }) {
  const [queries, keys] = [map.queries.map((text) => shorten(pen, text)), map.keys.map((text) => shorten(pen, text))];
  const widest = (labels) => Math.max(...labels.map((text) => pen.measureText(text).width));
  const left = widest(queries) * 1.1 + GAP;
  const right = left + Math.max(100, Math.min(320, room - left - widest(keys) - 2 * GAP));
  const height = 24 * Math.max(queries.length, keys.length);
  // The shorter column is spread over the height of the longer one: lines of an even alignment run level.
  const queryY = (index) => ((index + 0.5) * height) / queries.length;
  const keyY = (index) => ((index + 0.5) * height) / keys.length;
  const nearest = (y, labels) => Math.max(0, Math.min(labels.length - 1, Math.floor((y / height) * labels.length)));

  function line(pen, query, key, colour, width, dash) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.setLineDash(dash ? [5, 4] : []);
    pen.beginPath();
    pen.moveTo(left, queryY(query));
    pen.lineTo(right, keyY(key));
    pen.stroke();
  }

  function labels(pen, colours, { query, key }) {
    const look = (read) => ({ colour: read ? colours.row : colours.ink, bold: read });
    queries.forEach((text, index) =>
      write(pen, text, left - GAP, queryY(index), { align: "right", ...look(index === query) }),
    );
    keys.forEach((text, index) => write(pen, text, right + GAP, keyY(index), look(index === key)));
  }

  return {
    // A bold label is wider than it was measured.
    width: Math.ceil(right + GAP + widest(keys) * 1.1),
    height,

    base(pen, rows, colours) {
      rows.forEach((row, query) => {
        const strongest = largest(row);
        row.forEach((weight, key) => {
          const part = strongest ? Math.abs(weight) / strongest : 0;
          if (part >= dashed) line(pen, query, key, stroke(weight, colours), part >= solid ? 2 : 1.2, part < solid);
        });
      });
      labels(pen, colours, {});
    },

    // What is read is drawn whole: every weight of the row or column, as thick as it is large.
    cursor(pen, rows, colours, most, { query, key }) {
      const pairs =
        query !== null ? keys.map((_, other) => [query, other]) : queries.map((_, other) => [other, key]);
      for (const [from, to] of pairs) {
        const part = Math.abs(rows[from][to]) / (most || 1);
        const colour = from === query && to === key ? colours.row : stroke(rows[from][to], colours);
        if (part > 0.01) line(pen, from, to, colour, 0.5 + 5 * part, false);
      }
      labels(pen, colours, { query, key });
    },

    at(x, y) {
      const onLeft = x < (left + right) / 2;
      return { query: onLeft ? nearest(y, queries) : null, key: onLeft ? null : nearest(y, keys) };
    },
  };
}

// -- page ------------------------------------------------------------------------------------------------------------

const VIEWS = { matrix, lines };

const TEMPLATE = `
  <header>
    <div><h1></h1><p class="caption"></p></div>
    <button type="button" class="theme" title="Light or dark (t)">Light / dark</button>
  </header>
  <div class="controls">
    <label>Layer <select class="layer"></select></label>
    <label>Head <select class="head"></select></label>
    <span class="views" role="group" aria-label="View">
      <button type="button" data-view="matrix">Matrix</button><button type="button" data-view="lines">Lines</button>
    </span>
  </div>
  <div class="stage">
    <div class="scroll">
      <div class="plot" tabindex="0" role="application" aria-label="Attention weights; arrow keys read them">
        <canvas class="base"></canvas><canvas class="cursor"></canvas>
      </div>
    </div>
    <section class="reading" aria-label="Reading">
      <p class="readout" aria-live="polite"></p>
      <ol class="row"></ol>
    </section>
  </div>
  <footer>
    <p class="legend"></p><span class="probe" hidden></span>
    <p><span class="facts"></span> <span class="error"></span></p>
    <p class="keys">After a click or Tab into the page: <kbd>←</kbd> <kbd>→</kbd> key, <kbd>↑</kbd> <kbd>↓</kbd> query,
      <kbd>Esc</kbd> none, <kbd>[</kbd> <kbd>]</kbd> head, <kbd>,</kbd> <kbd>.</kbd> layer, <kbd>v</kbd> view,
      <kbd>t</kbd> light or dark</p>
  </footer>`;

function element(name, className, ...children) {
  const made = Object.assign(document.createElement(name), { className });
  made.append(...children);
  return made;
}

/** A label in quotes, on its own so that right-to-left text stays in its place within a sentence. */
const quoted = (label) => ["“", element("bdi", "", label), "”"];

/** What the cursor is on, in words, and the weights of its row (or, with no query, of its column) with their labels. */
function reading({ queries, keys }, rows, { query, key }) {
  if (query !== null) {
    const words = [...quoted(queries[query]), " attends to "];
    if (key !== null) words.push(...quoted(keys[key]), `: ${rows[query][key].toFixed(4)}`);
    return { words, labels: keys, weights: Array.from(rows[query]), here: key };
  }
  if (key !== null) {
    const weights = rows.map((row) => row[key]);
    return { words: [...quoted(keys[key]), " is attended to by"], labels: queries, weights, here: null };
  }
  const words = ["Point at a weight, or press an arrow key in the plot, to read it and its row."];
  return { words, labels: [], weights: [], here: null };
}

function rowItem(label, weight, part, here) {
  const bar = element("span", weight < 0 ? "bar below" : "bar");
  bar.style.width = `${100 * part}%`;
  const amount = element("span", "amount", weight.toFixed(4));
  return element("li", here ? "here" : "", element("bdi", "", label), element("span", "", bar), amount);
}

export function mount(root, data) {
  root.innerHTML = TEMPLATE;
  const find = (selector) => root.querySelector(selector);
  const [base, cursor, plot, stage] = [".base", ".cursor", ".plot", ".stage"].map(find);
  const [layers, heads] = [find(".layer"), find(".head")];
  const state = { layer: 0, head: -1, view: "matrix", query: null, key: null };
  const decoded = new Map(); // by layer, once it was looked at
  let view, rows, most, colours;

  const map = () => data.maps[state.layer];

  /** The width that the reading beside the plot, or below it on a narrow screen, leaves to the plot. */
  function room() {
    const { flexDirection, columnGap } = getComputedStyle(stage);
    const beside = flexDirection === "row" ? find(".reading").offsetWidth + parseFloat(columnGap) : 0;
    return stage.clientWidth - beside;
  }

  /** Everything anew: another layer, head, view, scheme or width. */
  function draw() {
    if (!decoded.has(state.layer)) decoded.set(state.layer, decode(map()));
    rows = decoded.get(state.layer).at(state.head);
    most = largest(rows.map(largest));
    colours = palette(find(".probe"));
    view = VIEWS[state.view](prepare(cursor, 1, 1), map(), room(), data);
    view.base(prepare(base, view.width, view.height), rows, colours, most);
    [plot.style.width, plot.style.height] = [`${view.width}px`, `${view.height}px`];
    plot.dataset.view = state.view;
    for (const button of root.querySelectorAll("button[data-view]"))
      button.setAttribute("aria-pressed", button.dataset.view === state.view);
    [layers.value, heads.value] = [state.layer, state.head];
    find(".facts").textContent = `${map().facts}; queries × keys: ${rows.length} × ${rows[0].length}.`;
    find(".legend").replaceChildren(...legend());
    read();
  }

  function read() {
    const { words, labels, weights, here } = reading(map(), rows, state);
    const pen = prepare(cursor, view.width, view.height);
    plot.classList.toggle("read", weights.length > 0);
    if (weights.length) view.cursor(pen, rows, colours, most, state);
    find(".readout").replaceChildren(...words);
    const order = [...weights.keys()].sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a])).slice(0, LISTED);
    const part = (index) => Math.abs(weights[index]) / (most || 1);
    const item = (index) => rowItem(labels[index], weights[index], part(index), index === here);
    find(".row").replaceChildren(...order.map(item));
  }

  function legend() {
    if (state.view === "lines") {
      const sample = (look) => element("span", `sample ${look}`);
      const solid = `at least ${data.solid} of the row’s largest weight`;
      const negative = map().signed ? [sample("below"), "negative"] : [];
      const sides = element("span", "", "queries on the left, keys on the right");
      return [sample("solid"), solid, sample("dashed"), `at least ${data.dashed} of it`, ...negative, sides];
    }
    const ramp = element("span", "ramp");
    const high = colours.high.map(css);
    const below = map().signed ? colours.below.slice(1).reverse().map(css) : [];
    ramp.style.background = `linear-gradient(to right, ${[...below, ...high].join()})`;
    return [map().signed ? (-most).toFixed(2) : "0", ramp, `${most.toFixed(2)} weight; rows are queries, columns keys`];
  }

  /** Another layer, head or view; a cursor that it still has stays where it was. */
  function choose(change) {
    Object.assign(state, change);
    if (state.query >= map().queries.length) state.query = null;
    if (state.key >= map().keys.length) state.key = null;
    offerHeads();
    draw();
  }

  function offerHeads() {
    const count = map().heads;
    const options = Array.from({ length: count }, (_, head) => new Option(`head ${head}`, head));
    if (count > 1) options.unshift(new Option(`mean of ${count} heads`, -1));
    heads.replaceChildren(...options);
    if (count === 1) state.head = 0;
    else if (state.head >= count) state.head = -1;
  }

  const turn = (index, by, count) => (index + by + count) % count;
  const step = (index, by, count) => {
    if (index === null) return by > 0 ? 0 : count - 1;
    return Math.max(0, Math.min(count - 1, index + by));
  };
  const move = (side, by) => {
    state[side] = step(state[side], by, map()[side === "query" ? "queries" : "keys"].length);
    read();
  };
  const turnHead = (by) => choose({ head: Number(heads.options[turn(heads.selectedIndex, by, heads.length)].value) });
  const turnLayer = (by) => choose({ layer: turn(state.layer, by, data.maps.length) });
  const look = (query, key) => {
    if (query === state.query && key === state.key) return;
    Object.assign(state, { query, key });
    read();
  };

  function turnScheme() {
    const scheme = document.documentElement.dataset;
    const dark = scheme.theme ? scheme.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    scheme.theme = dark ? "light" : "dark";
    draw();
  }

  const actions = {
    ArrowUp: () => move("query", -1),
    ArrowDown: () => move("query", 1),
    ArrowLeft: () => move("key", -1),
    ArrowRight: () => move("key", 1),
    Escape: () => look(null, null),
    "[": () => turnHead(-1),
    "]": () => turnHead(1),
    ",": () => turnLayer(-1),
    ".": () => turnLayer(1),
    v: () => choose({ view: state.view === "matrix" ? "lines" : "matrix" }),
    t: turnScheme,
  };

  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // A select moves by arrows and searches its options by letters: there, only the punctuation is ours.
    if (event.target instanceof HTMLSelectElement && /\w/.test(event.key)) return;
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
  const point = (event) => {
    const box = plot.getBoundingClientRect();
    const { query, key } = view.at(event.clientX - box.left, event.clientY - box.top);
    look(query, key);
  };
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  // A finger that lifts leaves too, but what it touched is still to be read.
  plot.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && look(null, null));
  layers.addEventListener("change", () => choose({ layer: Number(layers.value) }));
  heads.addEventListener("change", () => choose({ head: Number(heads.value) }));
  for (const button of root.querySelectorAll("button[data-view]"))
    button.addEventListener("click", () => choose({ view: button.dataset.view }));
  find(".theme").addEventListener("click", turnScheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(draw).observe(stage);

  find("h1").textContent = data.title;
  find(".caption").textContent = data.caption;
  const error = data.error.toExponential(1);
  find(".error").textContent = `Weights are rounded for this page; the largest error is ${error}.`;
  layers.replaceChildren(...data.maps.map((map, index) => new Option(map.layer, index)));
  choose({});
}
