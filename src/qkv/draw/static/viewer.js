// Draws attention maps into `root`: one layer and head at a time, as a matrix or as lines from queries to keys, beside
// all heads in small and a table of numbers about them.
//
// Three ideas, kept apart: `unpack` and `weightsOf` turn the page's data into numbers, a view (`matrix`, `lines`) lays
// them out, paints them and finds the cell under a point, and `mount` holds the state and listens.

const FONT = 13;
const LABEL = 150; // the widest label drawn, in pixels; the reading beside the plot has it whole
const GAP = 8;
const NUMBERED = 12; // up to so many queries and keys, cells carry their numbers
const LISTED = 8;
const THUMB = 40; // weights a side of a small picture, at most
const TALLEST = 15000; // pixels of a canvas, past which browsers draw none

// -- data ------------------------------------------------------------------------------------------------------------

const FORMS = { i2: Int16Array, i1: Int8Array, u1: Uint8Array };

function bytes(text) {
  const raw = atob(text);
  const codes = new Uint8Array(raw.length);
  for (let index = 0; index < raw.length; index++) codes[index] = raw.charCodeAt(index);
  return codes;
}

/** A map's steps (one a row of a head) and its weights as counts of them. */
async function unpack({ packed, form, heads, queries: { length: queries }, keys: { length: keys } }) {
  const stream = new Blob([bytes(packed)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const steps = new Float32Array(buffer, 0, heads * queries);
  return { heads, queries, keys, steps, counts: new FORMS[form](buffer, steps.byteLength) };
}

/** The weights of one head, or the mean of all for head -1: rows[query][key]. */
function weightsOf({ heads, queries, keys, steps, counts }, head) {
  const chosen = head < 0 ? [...Array(heads).keys()] : [head];
  const weights = new Float32Array(queries * keys);
  for (const one of chosen)
    for (let query = 0; query < queries; query++) {
      const step = steps[one * queries + query] / chosen.length;
      const [from, to] = [(one * queries + query) * keys, query * keys];
      for (let key = 0; key < keys; key++) weights[to + key] += counts[from + key] * step;
    }
  return Array.from({ length: queries }, (_, query) => weights.subarray(query * keys, (query + 1) * keys));
}

/** A head in small: the mean over blocks of queries of the sum over blocks of keys, so that rows still sum to one. */
function inSmall(rows) {
  const [down, across] = [Math.min(THUMB, rows.length), Math.min(THUMB, rows[0].length)];
  const small = Array.from({ length: down }, () => new Float32Array(across));
  const members = new Uint32Array(down);
  const column = Array.from(rows[0], (_, key) => Math.floor((key * across) / rows[0].length));
  rows.forEach((row, query) => {
    const block = Math.floor((query * down) / rows.length);
    members[block] += 1;
    for (let key = 0; key < row.length; key++) small[block][column[key]] += row[key];
  });
  small.forEach((row, block) => row.forEach((sum, key) => (row[key] = sum / members[block])));
  return small;
}

function largest(numbers) {
  let most = 0;
  for (const number of numbers) most = Math.max(most, Math.abs(number));
  return most;
}

// -- painting --------------------------------------------------------------------------------------------------------

/** Colours of the scheme in force, as the browser resolves them. */
function palette(probe) {
  const resolve = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const names = ["paper", "ink", "muted", "edge", "row", "low", "high-1", "high-2", "high-3", "high-4"];
  names.push("below-1", "below-2", "below-3", "below-4");
  const colours = Object.fromEntries(names.map((name) => [name, resolve(name)]));
  const channels = (name) => colours[name].match(/[\d.]+/g).slice(0, 3).map(Number);
  const ramp = (side) => [channels("low"), ...[1, 2, 3, 4].map((step) => channels(`${side}-${step}`))];
  const [high, below] = [ramp("high"), ramp("below")];
  return { ...colours, high, below, pixels: { high: pixels(high), below: pixels(below) } };
}

/** 256 colours along a scale, as the numbers that an image's memory holds. */
function pixels(stops) {
  return Uint32Array.from({ length: 256 }, (_, index) => {
    const [red, green, blue] = along(stops, index / 255);
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
}

/** Red, green and blue at `amount`, between 0 and 1, of the way through `stops`. */
function along(stops, amount) {
  const place = Math.min(amount, 1) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  return stops[index].map((low, channel) => Math.round(low + (stops[index + 1][channel] - low) * (place - index)));
}

/** One pixel a weight; `top` is the largest magnitude, and what is below `threshold` of its row's largest is left out. */
function picture(rows, top, colours, threshold = 0) {
  const image = new ImageData(rows[0].length, rows.length);
  const memory = new Uint32Array(image.data.buffer);
  const { high, below } = colours.pixels;
  rows.forEach((row, query) => {
    const least = threshold * largest(row);
    for (let key = 0; key < row.length; key++) {
      const size = Math.abs(row[key]);
      const shade = size < least ? 0 : Math.round((255 * size) / (top || 1));
      memory[query * row.length + key] = (row[key] < 0 ? below : high)[shade];
    }
  });
  return image;
}

const stroke = (weight, colours) => (weight < 0 ? colours["below-3"] : colours["high-3"]);
const css = ([red, green, blue]) => `rgb(${red} ${green} ${blue})`;
const isPale = ([red, green, blue]) => 0.299 * red + 0.587 * green + 0.114 * blue > 140;

/** A canvas of the given size in CSS pixels, sharp on this screen (where it can be so large), cleared. */
function prepare(canvas, width, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, TALLEST / Math.max(width, height));
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

function matrix(pen, map, room, { threshold }) {
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
  const keyStride = slanted ? Math.ceil((FONT * Math.SQRT2) / cell) : stride;
  const [across, down] = [keys.length * cell, queries.length * cell];

  function labels(pen, colour) {
    for (let query = 0; query < queries.length; query += stride)
      write(pen, queries[query], left - GAP, top + (query + 0.5) * cell, { align: "right", colour });
    for (let key = 0; key < keys.length; key += keyStride) {
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
      small.getContext("2d").putImageData(picture(rows, most, colours, threshold), 0, 0);
      pen.imageSmoothingEnabled = false;
      pen.drawImage(small, left, top, across, down);
      pen.strokeStyle = colours.edge;
      pen.strokeRect(left - 0.5, top - 0.5, across + 1, down + 1);
      labels(pen, colours.ink);
      if (cell < 32 || longest > NUMBERED) return;
      pen.font = pen.font.replace(`${FONT}px`, "11px");
      rows.forEach((row, query) =>
        row.forEach((weight, key) => {
          if (Math.abs(weight) < threshold * largest(row)) return;
          const fill = along(weight < 0 ? colours.below : colours.high, Math.abs(weight) / (most || 1));
          const colour = isPale(fill) ? "#1b1f24" : "#ffffff";
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

function lines(pen, map, room, { solid, threshold }) {
  const [queries, keys] = [map.queries.map((text) => shorten(pen, text)), map.keys.map((text) => shorten(pen, text))];
  const widest = (labels) => Math.max(...labels.map((text) => pen.measureText(text).width));
  const left = widest(queries) * 1.1 + GAP;
  const right = left + Math.max(100, Math.min(320, room - left - widest(keys) - 2 * GAP));
  const longest = Math.max(queries.length, keys.length);
  const spacing = Math.min(longest <= 64 ? 24 : FONT + 2, TALLEST / longest);
  const height = Math.ceil(spacing * longest);
  const stride = Math.ceil(FONT / spacing); // where lines of text would overlap, every stride-th label
  // The shorter column is spread over the height of the longer one: lines of an even alignment run level.
  const queryY = (index) => ((index + 0.5) * height) / queries.length;
  const keyY = (index) => ((index + 0.5) * height) / keys.length;
  const nearest = (y, labels) => Math.max(0, Math.min(labels.length - 1, Math.floor((y / height) * labels.length)));

  /** Many lines of one look, as one path: as quick for thousands as for ten. */
  function segments(pen, pairs, colour, width, dash) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.setLineDash(dash ? [5, 4] : []);
    pen.beginPath();
    for (const [query, key] of pairs) {
      pen.moveTo(left, queryY(query));
      pen.lineTo(right, keyY(key));
    }
    pen.stroke();
  }

  /** A label that is read, in the place of the plain one below it. */
  function mark(pen, colours, text, x, y, align) {
    const wide = pen.measureText(text).width * 1.1;
    pen.fillStyle = colours.paper;
    pen.fillRect(align === "right" ? x - wide : x, y - FONT * 0.7, wide, FONT * 1.4);
    write(pen, text, x, y, { align, colour: colours.row, bold: true });
  }

  return {
    // A bold label is wider than it was measured.
    width: Math.ceil(right + GAP + widest(keys) * 1.1),
    height,

    base(pen, rows, colours) {
      const looks = [];
      for (const sign of [1, -1])
        for (const dash of [true, false]) looks.push({ sign, dash, pairs: [] });
      rows.forEach((row, query) => {
        const strongest = largest(row);
        if (strongest === 0) return;
        row.forEach((weight, key) => {
          const part = Math.abs(weight) / strongest;
          if (part === 0 || part < threshold) return;
          looks[(weight < 0 ? 2 : 0) + (part < solid ? 0 : 1)].pairs.push([query, key]);
        });
      });
      for (const { sign, dash, pairs } of looks)
        segments(pen, pairs, stroke(sign, colours), dash ? 1.2 : 2, dash);
      for (let query = 0; query < queries.length; query += stride)
        write(pen, queries[query], left - GAP, queryY(query), { align: "right", colour: colours.ink });
      for (let key = 0; key < keys.length; key += stride)
        write(pen, keys[key], right + GAP, keyY(key), { colour: colours.ink });
    },

    // What is read is drawn whole: every weight of the row or column, as thick as it is large.
    cursor(pen, rows, colours, most, { query, key }) {
      pen.globalAlpha = 0.8; // the lines of all others fade
      pen.fillStyle = colours.paper;
      pen.fillRect(left, 0, right - left, height);
      pen.globalAlpha = 1;
      const pairs =
        query !== null ? keys.map((_, other) => [query, other]) : queries.map((_, other) => [other, key]);
      for (const [from, to] of pairs) {
        const part = Math.abs(rows[from][to]) / (most || 1);
        const colour = from === query && to === key ? colours.row : stroke(rows[from][to], colours);
        if (part > 0.01) segments(pen, [[from, to]], colour, 0.5 + 5 * part, false);
      }
      if (query !== null) mark(pen, colours, queries[query], left - GAP, queryY(query), "right");
      if (key !== null) mark(pen, colours, keys[key], right + GAP, keyY(key), "left");
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
    <label>Hide below <input type="range" class="threshold" min="0" max="1" step="0.05">
      <output class="hidden-below"></output></label>
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
      <div class="heads" role="group" aria-label="All heads"></div>
    </section>
  </div>
  <section class="table" aria-label="Heads in numbers"></section>
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

/** The table of heads: a click on a column's name sorts, one on a row chooses its head. */
function tabulate(root, { columns, rows }, choose) {
  const numbers = columns.map((_, column) => rows.every(({ cells }) => typeof (cells[column] ?? 0) === "number"));
  const whole = columns.map((_, column) => rows.every(({ cells }) => Number.isInteger(cells[column] ?? 0)));
  const words = (cell, column) => {
    if (cell === null) return "–";
    return numbers[column] && !whole[column] ? cell.toFixed(3) : String(cell);
  };
  const body = element("tbody", "");
  const lines = rows.map((row) => {
    const cells = row.cells.map((cell, column) => element("td", numbers[column] ? "number" : "", words(cell, column)));
    const line = element("tr", "", ...cells);
    line.addEventListener("click", () => choose(row));
    return { row, line };
  });

  function sort(column, header) {
    const falling = header.ariaSort === "ascending";
    for (const other of header.parentElement.children) other.ariaSort = "none";
    header.ariaSort = falling ? "descending" : "ascending";
    const compare = (a, b) => (numbers[column] ? a - b : String(a).localeCompare(String(b)));
    const order = [...lines].sort((one, other) => {
      const [a, b] = [one.row.cells[column], other.row.cells[column]];
      if (a === null || b === null) return (a === null) - (b === null); // what is not known comes last either way
      return falling ? compare(b, a) : compare(a, b);
    });
    body.replaceChildren(...order.map(({ line }) => line));
  }

  const headers = columns.map((name, column) => {
    const button = Object.assign(element("button", "", name), { type: "button" });
    const header = Object.assign(element("th", numbers[column] ? "number" : "", button), { scope: "col" });
    button.addEventListener("click", () => sort(column, header));
    return header;
  });
  body.append(...lines.map(({ line }) => line));
  root.replaceChildren(element("table", "", element("thead", "", element("tr", "", ...headers)), body));
  return ({ layer, head }) => {
    for (const { row, line } of lines) line.ariaCurrent = row.layer === layer && row.head === head;
  };
}

export async function mount(root, data) {
  const unpacked = []; // by layer; the others follow once the one shown first is drawn
  unpacked[data.first] = await unpack(data.maps[data.first]);
  root.innerHTML = TEMPLATE;
  const find = (selector) => root.querySelector(selector);
  const [base, cursor, plot, stage] = [".base", ".cursor", ".plot", ".stage"].map(find);
  const [layers, heads, slider] = [".layer", ".head", ".threshold"].map(find);
  const state = { layer: data.first, head: -1, view: "matrix", query: null, key: null };
  const threshold = { matrix: 0, lines: data.dashed };
  const thumbs = []; // every head in small, in the order of layers
  let view, rows, most, colours, drawnFor, pen;
  let awaited = null; // what was chosen of a layer that is still to come
  let mark = () => {};

  const map = () => data.maps[state.layer];

  /** The width that the reading beside the plot, or below it on a narrow screen, leaves to the plot. */
  function room() {
    const { flexDirection, columnGap } = getComputedStyle(stage);
    const beside = flexDirection === "row" ? find(".reading").offsetWidth + parseFloat(columnGap) : 0;
    return stage.clientWidth - beside;
  }

  /** Everything anew: another layer, head, view, threshold, scheme or width. */
  function draw() {
    drawnFor = room();
    rows = weightsOf(unpacked[state.layer], state.head);
    most = largest(rows.map(largest));
    colours = palette(find(".probe"));
    const options = { solid: data.solid, threshold: threshold[state.view] };
    view = VIEWS[state.view](prepare(cursor, 1, 1), map(), drawnFor, options);
    view.base(prepare(base, view.width, view.height), rows, colours, most);
    pen = prepare(cursor, view.width, view.height);
    [plot.style.width, plot.style.height] = [`${view.width}px`, `${view.height}px`];
    for (const button of root.querySelectorAll("button[data-view]"))
      button.setAttribute("aria-pressed", button.dataset.view === state.view);
    [layers.value, heads.value] = [state.layer, state.head];
    slider.value = threshold[state.view];
    find(".hidden-below").textContent = `${Math.round(100 * threshold[state.view])} % of the row’s largest`;
    find(".facts").textContent = `${map().facts}; queries × keys: ${rows.length} × ${rows[0].length}.`;
    find(".legend").replaceChildren(...legend());
    thumbs.forEach(press);
    mark(state);
    read();
  }

  function read() {
    const { words, labels, weights, here } = reading(map(), rows, state);
    pen.clearRect(0, 0, view.width, view.height);
    if (weights.length) view.cursor(pen, rows, colours, most, state);
    find(".readout").replaceChildren(...words);
    const order = [...weights.keys()].sort((a, b) => Math.abs(weights[b]) - Math.abs(weights[a])).slice(0, LISTED);
    const part = (index) => Math.abs(weights[index]) / (most || 1);
    const item = (index) => rowItem(labels[index], weights[index], part(index), index === here);
    find(".row").replaceChildren(...order.map(item));
  }

  function legend() {
    const least = threshold[state.view];
    if (state.view === "lines") {
      const sample = (look) => element("span", `sample ${look}`);
      const lines = [sample("solid"), `at least ${Math.max(data.solid, least)} of the row’s largest weight`];
      if (least < data.solid) lines.push(sample("dashed"), least ? `at least ${least} of it` : "less");
      if (map().signed) lines.push(sample("below"), "negative");
      return [...lines, element("span", "", "queries on the left, keys on the right")];
    }
    const ramp = element("span", "ramp");
    const high = colours.high.map(css);
    const below = map().signed ? colours.below.slice(1).reverse().map(css) : [];
    ramp.style.background = `linear-gradient(to right, ${[...below, ...high].join()})`;
    return [map().signed ? (-most).toFixed(2) : "0", ramp, `${most.toFixed(2)} weight; rows are queries, columns keys`];
  }

  /** Another layer, head or view; a cursor that it still has stays where it was. */
  function choose(change) {
    awaited = unpacked[change.layer ?? state.layer] ? null : change;
    if (awaited) return;
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

  /** A row of small pictures, one a head of this layer. */
  function addThumbs(layer) {
    const number = element("span", "", layer < data.layers ? layer : ""); // a mean over layers is none
    const line = element("div", "line", Object.assign(number, { title: data.maps[layer].layer }));
    for (let head = 0; head < data.maps[layer].heads; head++) {
      const small = inSmall(weightsOf(unpacked[layer], head));
      const canvas = Object.assign(element("canvas", ""), { width: small[0].length, height: small.length });
      const label = `${data.maps[layer].layer}, head ${head}`;
      // The keys for heads and layers reach all of them, so that they need not be stops of Tab.
      const button = Object.assign(element("button", "thumb", canvas), { type: "button", title: label, tabIndex: -1 });
      button.ariaLabel = label;
      button.addEventListener("click", () => choose({ layer, head }));
      thumbs.push({ layer, head, small, canvas, button });
      paintThumb(thumbs.at(-1));
      press(thumbs.at(-1));
      line.append(button);
    }
    find(".heads").append(line);
  }

  const press = ({ layer, head, button }) =>
    (button.ariaPressed = layer === state.layer && (head === state.head || state.head === -1));
  const paintThumb = ({ small, canvas }) =>
    canvas.getContext("2d").putImageData(picture(small, largest(small.map(largest)), colours), 0, 0);

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

  function recolour() {
    draw();
    thumbs.forEach(paintThumb);
  }

  function turnScheme() {
    const scheme = document.documentElement.dataset;
    const dark = scheme.theme ? scheme.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    scheme.theme = dark ? "light" : "dark";
    recolour();
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

  function listen() {
    root.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      // A select or slider moves by arrows, a select searches by letters: there, only the punctuation is ours.
      if (event.target.matches("select, input") && /\w/.test(event.key)) return;
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
    slider.addEventListener("input", () => {
      threshold[state.view] = Number(slider.value);
      draw();
    });
    for (const button of root.querySelectorAll("button[data-view]"))
      button.addEventListener("click", () => choose({ view: button.dataset.view }));
    find(".theme").addEventListener("click", turnScheme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    new ResizeObserver(() => room() !== drawnFor && draw()).observe(stage);
  }

  find("h1").textContent = data.title;
  find(".caption").textContent = data.caption;
  const [sum, was] = data.rowSum.map((value) => value.toFixed(4));
  const coarse = data.coarser ? " more coarsely than usual, to keep it below 20 MB" : "";
  find(".error").textContent =
    `Weights are rounded for this page${coarse}; the largest error is ${data.error.toExponential(1)}, ` +
    `and the row whose sum moves most sums to ${sum} instead of ${was}.`;
  layers.replaceChildren(...data.maps.map((map, index) => new Option(map.layer, index)));
  if (data.table) mark = tabulate(find(".table"), data.table, ({ layer, head }) => choose({ layer, head }));
  choose({});
  listen();
  const several = data.maps.length > 1 || data.maps[0].heads > 1;
  for (let layer = 0; layer < data.maps.length; layer++) {
    unpacked[layer] ??= await unpack(data.maps[layer]);
    if (several) addThumbs(layer);
    if (awaited?.layer === layer) choose(awaited);
  }
  root.dataset.ready = ""; // every layer is there
}
