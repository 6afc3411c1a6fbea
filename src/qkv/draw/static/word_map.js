// Draws maps of words into `root`, side by side: each is panned and zoomed by itself, and a word that is pointed at is
// shown on all of them.
//
// Three ideas, kept apart: `unpack` turns the page's data into numbers, a `chart` draws one map and knows its camera,
// and `mount` holds which word is looked at, and listens.

const FONT = 13;
const NAME_FONT = 14;
const LINE = 17; // the height of a label with its room, in pixels
const APART = 6; // pixels between two labels on one line
const RAISED = 11; // how far above its point a word is written
const REACH = 16; // a pointer so many pixels away still means the word
const DEEPEST = 400; // the largest zoom
const HUES = 7;
const [FARTHEST, NEAREST] = [100, 1e6]; // pixels to a map's whole width, between which labels are given their places
const CELL = 64; // pixels
const FORMS = 3;
const MARGIN = 32; // pixels around the canvas into which points are stamped
const SLICE = 12; // milliseconds of work between two chances to draw
const LISTED = 8;

const limited = (value, low, high) => Math.min(Math.max(value, low), high);

// -- data ------------------------------------------------------------------------------------------------------------

async function unpack({ packed, words, near, ...rest }) {
  const raw = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const count = words.length;
  const places = new Uint16Array(buffer, 4 * count * near, 2 * count);
  return {
    ...rest,
    words,
    near,
    count,
    index: new Map(words.map((word, place) => [word, place])),
    neighbours: new Uint32Array(buffer, 0, count * near),
    x: Float32Array.from({ length: count }, (_, place) => places[2 * place] / 65535),
    y: Float32Array.from({ length: count }, (_, place) => 1 - places[2 * place + 1] / 65535), // down, as on a screen
    cluster: new Uint16Array(buffer, 4 * count * (near + 1), count),
  };
}

const neighboursOf = (map, place) => [...map.neighbours.subarray(place * map.near, (place + 1) * map.near)];

/** Those of a word's neighbours that are among as many nearest on the map. */
function keptOf(map, place) {
  const distance = Float32Array.from(map.x, (x, other) => (x - map.x[place]) ** 2 + (map.y[other] - map.y[place]) ** 2);
  distance[place] = Infinity;
  const farthest = Float32Array.from(distance).sort()[Math.min(map.near, map.count - 1) - 1];
  return new Set(neighboursOf(map, place).filter((other) => distance[other] <= farthest));
}

/** Where the names of clusters stand: in the midst of their words, which outliers do not move. */
function middles(map) {
  const middle = (numbers) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
  const members = map.names.map(() => []);
  map.cluster.forEach((cluster, place) => members[cluster].push(place));
  return members.map((places) => [middle(places.map((place) => map.x[place])), middle(places.map((place) => map.y[place]))]);
}

// -- labels ----------------------------------------------------------------------------------------------------------

/**
 * The scale (pixels to a unit) from which each label is drawn, found a scale at a time from afar to near: a label is
 * placed at the first at which none that came before is in its way. So labels never cover one another, earlier ones
 * go first, none vanishes as one comes nearer, and moving the map changes none of them. Works in slices.
 */
async function reveal(labels, appears, drawn) {
  let began = performance.now();
  let waiting = labels.map((_, label) => label);
  const placed = [];
  for (let scale = FARTHEST; waiting.length && scale < NEAREST; scale *= 1.2) {
    const cells = new Map(); // the labels that reach into each cell of a grid, whose rows are as high as a label
    const box = ({ x, y, width, raised }) => {
      const [middle, row] = [x * scale, (y * scale - raised) / LINE];
      return { left: middle - width / 2 - APART / 2, right: middle + width / 2 + APART / 2, row };
    };
    const reached = ({ left, right, row }, visit) => {
      for (let down = Math.floor(row); down <= Math.floor(row) + 1; down++)
        for (let across = Math.floor(left / CELL); across <= Math.floor(right / CELL); across++)
          if (visit(down * 2 ** 26 + across)) return true;
      return false;
    };
    const put = (one) => reached(one, (cell) => void (cells.get(cell)?.push(one) ?? cells.set(cell, [one])));
    const taken = (one) =>
      reached(one, (cell) =>
        cells.get(cell)?.some((other) => other.left < one.right && one.left < other.right && Math.abs(other.row - one.row) < 1),
      );
    for (const label of placed) put(box(labels[label]));
    const still = [];
    for (const label of waiting) {
      const one = box(labels[label]);
      if (taken(one)) still.push(label);
      else {
        put(one);
        placed.push(label);
        appears[label] = scale;
      }
      if (performance.now() - began > SLICE) {
        await new Promise((next) => setTimeout(next));
        began = performance.now();
      }
    }
    waiting = still;
    drawn();
  }
}

// -- one map ---------------------------------------------------------------------------------------------------------

/** Colours of the scheme in force, as the browser resolves them. */
function palette(probe) {
  const resolve = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const named = Object.fromEntries(["paper", "ink", "muted", "accent"].map((name) => [name, resolve(name)]));
  const clusters = Array.from({ length: HUES }, (_, hue) => resolve(`cluster-${hue}`));
  const packed = clusters.map((colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
    return (blue << 16) | (green << 8) | red;
  });
  return { ...named, clusters, packed };
}

const formOf = (cluster) => Math.floor(cluster / HUES) % FORMS;

/** The mark of a cluster around (x, y): the colours come again in another form. */
function mark(pen, cluster, x, y, radius, colours) {
  pen.fillStyle = colours.clusters[cluster % HUES];
  outline(pen, formOf(cluster), x, y, radius);
  pen.fill();
}

function outline(pen, form, x, y, radius) {
  pen.beginPath();
  if (form === 0) pen.arc(x, y, radius, 0, 2 * Math.PI);
  else if (form === 1) pen.rect(x - 0.9 * radius, y - 0.9 * radius, 1.8 * radius, 1.8 * radius);
  else {
    pen.moveTo(x, y - 1.3 * radius);
    pen.lineTo(x + 1.2 * radius, y + 0.9 * radius);
    pen.lineTo(x - 1.2 * radius, y + 0.9 * radius);
  }
}

/** What a form covers: where its pixels stand, seen from its middle, and how much of each. */
function stampOf(form, radius) {
  const half = Math.ceil(1.4 * radius);
  const pen = new OffscreenCanvas(2 * half + 1, 2 * half + 1).getContext("2d");
  outline(pen, form, half + 0.5, half + 0.5, radius);
  pen.fill();
  const { data, width } = pen.getImageData(0, 0, 2 * half + 1, 2 * half + 1);
  const pixels = [...Array(width * width).keys()].filter((pixel) => data[4 * pixel + 3]);
  return {
    across: Int32Array.from(pixels, (pixel) => (pixel % width) - half),
    down: Int32Array.from(pixels, (pixel) => Math.floor(pixel / width) - half),
    cover: Float32Array.from(pixels, (pixel) => data[4 * pixel + 3]),
  };
}

/** All points as pixels: tens of thousands are stamped in the time in which a canvas would draw a thousand. */
function scatter(width, height) {
  const [wide, high] = [width + 2 * MARGIN, height + 2 * MARGIN];
  const image = new ImageData(wide, high);
  const memory = new Uint32Array(image.data.buffer);
  return {
    clear: () => memory.fill(0),
    stamp({ across, down, cover }, x, y, colour, strength) {
      if (x <= -MARGIN / 2 || y <= -MARGIN / 2 || x >= width + MARGIN / 2 || y >= height + MARGIN / 2) return;
      const middle = (Math.round(y) + MARGIN) * wide + Math.round(x) + MARGIN;
      for (let pixel = 0; pixel < cover.length; pixel++) {
        const place = middle + down[pixel] * wide + across[pixel];
        const alpha = cover[pixel] * strength;
        if (memory[place] >>> 24 <= alpha) memory[place] = (alpha << 24) | colour;
      }
    },
    put: (pen) => pen.putImageData(image, -MARGIN, -MARGIN),
  };
}

function chart(map, figure, told) {
  const find = (selector) => figure.querySelector(selector);
  const [plot, base, over] = [find(".plot"), find(".base"), find(".over")];
  const family = getComputedStyle(document.body).fontFamily;
  const letters = (size, weight = "") => `${weight} ${size}px ${family}`;
  const wide = Math.max(...map.x) - Math.min(...map.x);
  const tall = Math.max(...map.y) - Math.min(...map.y);
  const whole = { x: Math.min(...map.x) + wide / 2, y: Math.min(...map.y) + tall / 2 };
  const camera = { ...whole, zoom: 1 };
  let [width, height, ratio, colours, points, stamps, waiting, shown, chosen] = [0, 0, 1, null, null, {}, 0, null, null];

  const unit = () => Math.min((width - 90) / (wide || 1), (height - 60) / (tall || 1));
  const scale = () => camera.zoom * unit();
  const across = (x) => (x - camera.x) * scale() + width / 2;
  const down = (y) => (y - camera.y) * scale() + height / 2;
  const inside = (x, y, margin) => x > -margin && x < width + margin && y > -margin && y < height + margin;
  const radius = () => limited(Math.round(0.8 * Math.sqrt((width * height * camera.zoom) / map.count / 30)) / 2 + 1, 1.5, 4.5);

  // Labels in the order of their claims: names of clusters, then words from the most frequent.
  const measure = new OffscreenCanvas(1, 1).getContext("2d");
  const labels = [];
  const label = (text, x, y, font, look) => {
    measure.font = font;
    labels.push({ text, x, y, font, width: measure.measureText(text).width, ...look });
  };
  const [named, plain] = [letters(NAME_FONT, "600"), letters(FONT)];
  middles(map).forEach(([x, y], cluster) => label(map.names[cluster], x, y, named, { cluster, raised: 0 }));
  map.words.forEach((word, place) => label(word, map.x[place], map.y[place], plain, { place, raised: RAISED }));
  const appears = new Float64Array(labels.length).fill(Infinity);

  function written(pen, { text, font, cluster }, x, y, colour) {
    pen.font = font;
    pen.strokeStyle = colours.paper;
    pen.fillStyle = colour ?? (cluster === undefined ? colours.ink : colours.clusters[cluster % HUES]);
    pen.strokeText(text, x, y);
    pen.fillText(text, x, y);
  }

  function pen(canvas) {
    const made = canvas.getContext("2d");
    made.setTransform(ratio, 0, 0, ratio, 0, 0);
    made.clearRect(0, 0, width, height);
    Object.assign(made, { textAlign: "center", textBaseline: "middle", lineWidth: 4, lineJoin: "round" });
    return made;
  }

  function paint() {
    waiting = 0;
    const drawing = pen(base);
    const size = radius() * ratio;
    if (stamps.size !== size) stamps = { size, each: Array.from({ length: FORMS }, (_, form) => stampOf(form, size)) };
    const by = scale();
    const [left, top] = [width / 2 - camera.x * by, height / 2 - camera.y * by];
    points.clear();
    for (let place = map.count - 1; place >= 0; place--) {
      const cluster = map.cluster[place];
      const [x, y] = [(map.x[place] * by + left) * ratio, (map.y[place] * by + top) * ratio];
      const strength = chosen === null || chosen === cluster ? 0.85 : 0.12;
      points.stamp(stamps.each[formOf(cluster)], x, y, colours.packed[cluster % HUES], strength);
    }
    points.put(drawing);
    let named = 0;
    for (let index = labels.length - 1; index >= 0; index--) {
      if (appears[index] > by) continue;
      const one = labels[index];
      if (chosen !== null && chosen !== (one.cluster ?? map.cluster[one.place])) continue;
      const [x, y] = [one.x * by + left, one.y * by + top];
      if (!inside(x, y, one.width / 2)) continue;
      written(drawing, one, x, y - one.raised);
      named += one.cluster === undefined;
    }
    find(".zoom").textContent =
      `${camera.zoom < 10 ? camera.zoom.toFixed(1) : Math.round(camera.zoom)} times enlarged; ` +
      `${named.toLocaleString("en")} of ${map.count.toLocaleString("en")} words named in view`;
    point();
  }

  /** The word that is looked at, its neighbours, and lines to them. */
  function point() {
    const drawing = pen(over);
    base.style.opacity = shown === null ? 1 : 0.55;
    if (shown === null) return;
    const near = neighboursOf(map, shown);
    const at = (place) => [across(map.x[place]), down(map.y[place])];
    drawing.save();
    [drawing.strokeStyle, drawing.lineWidth, drawing.globalAlpha] = [colours.muted, 1, 0.7];
    for (const other of near) {
      drawing.beginPath();
      drawing.moveTo(...at(shown));
      drawing.lineTo(...at(other));
      drawing.stroke();
    }
    drawing.restore();
    const size = Math.max(radius(), 3);
    for (const place of [...near, shown]) mark(drawing, map.cluster[place], ...at(place), size, colours);
    drawing.save();
    [drawing.strokeStyle, drawing.lineWidth] = [colours.ink, 2];
    drawing.beginPath();
    drawing.arc(...at(shown), size + 3, 0, 2 * Math.PI);
    drawing.stroke();
    drawing.restore();
    const boxes = [];
    for (const place of [shown, ...near]) {
      const { text, width: long } = labels[map.names.length + place];
      const [x, y] = at(place);
      const box = [x - 0.55 * long, y - RAISED - 8, x + 0.55 * long, y - RAISED + 8];
      if (boxes.some((one) => one[0] < box[2] && box[0] < one[2] && one[1] < box[3] && box[1] < one[3])) continue;
      boxes.push(box);
      written(drawing, { text, font: letters(FONT, place === shown ? "700" : "600") }, x, y - RAISED, colours.ink);
    }
  }

  const soon = () => points && (waiting ||= requestAnimationFrame(paint));

  function resize() {
    [width, height, ratio] = [plot.clientWidth, plot.clientHeight, Math.min(window.devicePixelRatio || 1, 2)];
    for (const canvas of [base, over]) [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    points = scatter(base.width, base.height);
    soon();
  }

  function recolour() {
    colours = palette(figure);
    figure.style.color = "";
    for (const [cluster, canvas] of figure.querySelectorAll(".mark").entries()) {
      [canvas.width, canvas.height] = [28, 28];
      mark(canvas.getContext("2d"), cluster, 14, 15, 9, colours);
    }
    soon();
  }

  /** Comes nearer by `factor`; what is under (x, y) stays there. */
  function zoom(factor, x = width / 2, y = height / 2) {
    const before = scale();
    camera.zoom = limited(camera.zoom * factor, 0.5, DEEPEST);
    const moved = 1 / before - 1 / scale();
    camera.x += (x - width / 2) * moved;
    camera.y += (y - height / 2) * moved;
    soon();
  }

  function pan(x, y) {
    // Some of the map stays in view.
    camera.x = limited(camera.x - x / scale(), whole.x - wide / 2, whole.x + wide / 2);
    camera.y = limited(camera.y - y / scale(), whole.y - tall / 2, whole.y + tall / 2);
    soon();
  }

  function home() {
    Object.assign(camera, whole, { zoom: 1 });
    soon();
  }

  /** Brings a word into the middle, near enough for its label. */
  function centre(place) {
    const needed = appears[map.names.length + place] / unit();
    const enough = Number.isFinite(needed) ? Math.max(camera.zoom, 2, 1.05 * needed) : camera.zoom;
    Object.assign(camera, { x: map.x[place], y: map.y[place], zoom: Math.min(enough, DEEPEST) });
    soon();
  }

  /** The word nearest to a point, if one is in reach. */
  function under(x, y) {
    let [best, least] = [null, REACH ** 2];
    for (let place = 0; place < map.count; place++) {
      const far = (across(map.x[place]) - x) ** 2 + (down(map.y[place]) - y) ** 2;
      if (far < least) [best, least] = [place, far];
    }
    return best;
  }

  function listen() {
    const pointers = new Map();
    let moved = false;
    const at = (event) => {
      const box = plot.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const spread = () => {
      const [[a, b], [c, d]] = [...pointers.values()];
      return { far: Math.hypot(a - c, b - d), middle: [(a + c) / 2, (b + d) / 2] };
    };
    plot.addEventListener("wheel", (event) => {
      event.preventDefault();
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      zoom(Math.exp(limited(-event.deltaY * lines, -240, 240) / 400), ...at(event));
    }, { passive: false });
    plot.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      plot.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, at(event));
      moved = pointers.size > 1;
    });
    plot.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      const last = pointers.get(event.pointerId);
      if (!last) {
        const place = event.target.closest("button") ? null : under(x, y);
        plot.classList.toggle("pointing", place !== null);
        return told.hover(place);
      }
      if (pointers.size === 1) {
        if (!moved && Math.hypot(x - last[0], y - last[1]) < 4) return;
        moved = true;
        plot.classList.add("dragging");
        pan(x - last[0], y - last[1]);
        pointers.set(event.pointerId, [x, y]);
      } else {
        const before = spread();
        pointers.set(event.pointerId, [x, y]);
        const { far, middle } = spread();
        pan(middle[0] - before.middle[0], middle[1] - before.middle[1]);
        zoom(far / (before.far || 1), ...middle);
      }
    });
    const release = (event) => {
      if (event.type === "pointerup" && pointers.has(event.pointerId) && !moved) told.choose(under(...at(event)));
      pointers.delete(event.pointerId);
      plot.classList.toggle("dragging", moved && pointers.size > 0);
    };
    for (const end of ["pointerup", "pointercancel"]) plot.addEventListener(end, release);
    plot.addEventListener("pointerleave", () => told.hover(null));
    const step = 60;
    const keys = {
      ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0), ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
      "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: home,
    };
    plot.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    find(".nearer").addEventListener("click", () => zoom(1.5));
    find(".farther").addEventListener("click", () => zoom(1 / 1.5));
    find(".home").addEventListener("click", home);
    for (const [cluster, button] of figure.querySelectorAll(".clusters button").entries())
      button.addEventListener("click", () => {
        chosen = chosen === cluster ? null : cluster;
        figure.querySelectorAll(".clusters button").forEach((one, number) => one.setAttribute("aria-pressed", number === chosen));
        soon();
      });
    new ResizeObserver(resize).observe(plot);
  }

  function look(place) {
    if (place === shown) return;
    shown = place;
    point();
  }

  find("h2").textContent = map.title;
  find(".facts").textContent = map.facts;
  plot.setAttribute("aria-label", `${map.title}: ${map.count} words`);
  find(".clusters").replaceChildren(
    ...map.names.map((name) => {
      const item = document.createElement("li");
      item.innerHTML = '<button type="button" aria-pressed="false"><canvas class="mark"></canvas><bdi></bdi></button>';
      item.querySelector("bdi").textContent = name;
      return item;
    }),
  );
  recolour();
  listen();
  return { map, look, centre, recolour, ready: reveal(labels, appears, soon) };
}

// -- the page --------------------------------------------------------------------------------------------------------

const FIGURE = `
  <h2></h2>
  <p class="facts"></p>
  <div class="plot" role="application" tabindex="0">
    <canvas class="base" aria-hidden="true"></canvas>
    <canvas class="over" aria-hidden="true"></canvas>
    <div class="zooms">
      <button type="button" class="nearer" aria-label="Nearer" title="Nearer: +">+</button>
      <button type="button" class="farther" aria-label="Farther" title="Farther: -">−</button>
      <button type="button" class="home" aria-label="Whole map" title="Whole map: 0">⤢</button>
    </div>
  </div>
  <p class="facts zoom"></p>
  <ul class="clusters" aria-label="Clusters"></ul>`;

const PAGE = `
  <header>
    <div><h1></h1><p class="caption"></p></div>
    <button type="button" class="theme">Light / dark</button>
  </header>
  <div class="stage">
    <div class="maps"></div>
    <section class="reading" aria-label="Reading">
      <input class="search" type="search" placeholder="Find a word" aria-label="Find a word" autocomplete="off" spellcheck="false">
      <ul class="found" aria-label="Words found"></ul>
      <div class="words" aria-live="polite"></div>
    </section>
  </div>
  <footer>
    <p>Drag to move, wheel or pinch to come nearer, point at a word for its nearest words, click to keep it.
    On a map: <kbd>←</kbd> <kbd>→</kbd> <kbd>↑</kbd> <kbd>↓</kbd> move, <kbd>+</kbd> <kbd>-</kbd> zoom, <kbd>0</kbd> the whole.
    <kbd>/</kbd> finds a word, <kbd>Esc</kbd> lets it go, <kbd>t</kbd> turns light and dark.</p>
    <p>Nearest words are those in the space of the vectors: ● nearest on the map too, ○ the map has torn apart.</p>
  </footer>`;

async function mount(root, data) {
  root.innerHTML = PAGE;
  const find = (selector) => root.querySelector(selector);
  let [hovered, kept] = [null, null]; // words

  function show() {
    const word = hovered ?? kept;
    for (const one of charts) one.look(word === null ? null : (one.map.index.get(word) ?? null));
    const reading = word === null ? [] : charts.flatMap(({ map }) => read(map, word));
    if (word === null) {
      const idle = document.createElement("p");
      idle.textContent = "Point at a word.";
      reading.push(idle);
    }
    find(".words").replaceChildren(...reading);
  }

  /** What is told of a word on one map. */
  function read(map, word) {
    const place = map.index.get(word);
    const told = document.createElement("p");
    told.className = "readout";
    if (place === undefined) {
      told.textContent = `“${word}” is not on the map ${map.title}.`;
      return [told];
    }
    const near = neighboursOf(map, place);
    const still = keptOf(map, place);
    told.innerHTML = "<b><bdi></bdi></b><br><span></span>";
    told.querySelector("bdi").textContent = word;
    const where = data.maps.length > 1 ? `${map.title}: ` : "";
    told.querySelector("span").textContent =
      `${where}of its ${near.length} nearest words, ${still.size} nearest on the map; cluster ${map.names[map.cluster[place]]}`;
    const list = document.createElement("ul");
    list.className = "near";
    list.append(
      ...near.map((other) => {
        const item = wordButton(map.words[other]);
        item.classList.toggle("kept", still.has(other));
        return item;
      }),
    );
    return [told, list];
  }

  function wordButton(word) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    [button.type, button.textContent] = ["button", word];
    button.addEventListener("click", () => go(word));
    item.append(button);
    return item;
  }

  /** Keeps a word and brings it into the middle of every map that has it. */
  function go(word) {
    [hovered, kept] = [null, word];
    for (const one of charts) if (one.map.index.has(word)) one.centre(one.map.index.get(word));
    show();
  }

  function matches(text) {
    const typed = text.trim().toLowerCase();
    if (!typed) return [];
    const words = [...new Set(charts.flatMap(({ map }) => map.words))];
    const rank = (word) => (word === typed ? 0 : word.startsWith(typed) ? 1 : word.includes(typed) ? 2 : 3);
    return [0, 1, 2].flatMap((wanted) => words.filter((word) => rank(word.toLowerCase()) === wanted)).slice(0, LISTED);
  }

  function listen() {
    const search = find(".search");
    search.addEventListener("input", () => {
      const found = matches(search.value);
      find(".found").replaceChildren(...found.map(wordButton));
      if (search.value.trim() && !found.length) find(".found").textContent = "no such word";
    });
    search.addEventListener("keydown", (event) => {
      const [first] = event.key === "Enter" ? matches(search.value) : [];
      if (first) go(first);
    });
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      [hovered, kept] = [null, null];
      show();
    });
    document.addEventListener("keydown", (event) => {
      if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "t") turnScheme();
      if (event.key === "/") {
        event.preventDefault();
        search.focus();
      }
    });
    find(".theme").addEventListener("click", turnScheme);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  }

  const recolour = () => charts.forEach((one) => one.recolour());

  function turnScheme() {
    const scheme = document.documentElement.dataset;
    const dark = scheme.theme ? scheme.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    scheme.theme = dark ? "light" : "dark";
    recolour();
  }

  find("h1").textContent = data.title;
  find(".caption").textContent = data.caption;
  const maps = await Promise.all(data.maps.map(unpack));
  const charts = maps.map((map) => {
    const figure = document.createElement("section");
    figure.className = "map";
    figure.innerHTML = FIGURE;
    find(".maps").append(figure);
    const word = (place) => (place === null ? null : map.words[place]);
    return chart(map, figure, {
      hover: (place) => word(place) !== hovered && ((hovered = word(place)), show()),
      choose: (place) => ((kept = word(place)), show()),
    });
  });
  show();
  listen();
  await Promise.all(charts.map((one) => one.ready));
  root.dataset.ready = ""; // every label has its place
}
