// Adds to the page what needs a hand: tooltips and arrow keys in the heatmaps, and one head's
// details with all its candidates. All numbers come from the JSON in #data.
(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const maps = [...document.querySelectorAll('svg.heat')];
  const tip = document.getElementById('tip');
  const name = document.getElementById('detail-name');
  const space = maps[0].namespaceURI;
  let lastCell = null;

  const svg = (tag, attributes, text) => {
    const element = document.createElementNS(space, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const html = (tag, text, attributes = {}) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const percent = (share) => (100 * share).toFixed(2) + ' %';
  const short = (value) => value > 0 && value < 0.001
    ? value.toExponential(2).replace(/\.?0*e/, 'e') : String(Number(value.toPrecision(3)));

  // ---- candidates of a head

  const shapes = [
    'M-3,0a3,3 0 1,0 6,0a3,3 0 1,0 -6,0', 'M-2.7,-2.7h5.4v5.4h-5.4z', 'M0,-3.6l3.6,6.2h-7.2z',
    'M0,-4l4,4l-4,4l-4,-4z', 'M0,3.6l3.6,-6.2h-7.2z', 'M-1.2,-3.8h2.4v2.6h2.6v2.4h-2.6v2.6h-2.4v-2.6h-2.6v-2.4h2.6z',
  ];
  // Above where scores are rounding: what costs nearly as much as dense attention differs from it by
  // 1e-16, and would leave no room for what differs.
  const decades = 1e-5;
  // Colour by pattern; families that share one differ in shape.
  const families = [];
  const familyOf = [];  // [candidate]
  for (const [text, pattern, count] of data.families) {
    for (let i = 0; i < count; ++i) familyOf.push(families.length);
    families.push({text, pattern, shape: shapes[families.length % shapes.length]});
  }

  // Those that some price of work makes the best: the lower convex hull of error over cost.
  const hullOf = (shares, errors) => {
    const order = shares.map((_, i) => i).sort((a, b) => shares[a] - shares[b] || errors[a] - errors[b]);
    const hull = [];
    for (const i of order) {
      if (hull.length && errors[i] >= errors[hull[hull.length - 1]]) continue;
      while (hull.length > 1) {
        const [a, b] = hull.slice(-2);
        const turn = (shares[b] - shares[a]) * (errors[i] - errors[a]) -
            (errors[b] - errors[a]) * (shares[i] - shares[a]);
        if (turn > 0) break;
        hull.pop();
      }
      hull.push(i);
    }
    return hull;
  };

  const logAxis = (values, from, to) => {
    const low = Math.min(...values), high = Math.max(...values);
    const marks = high / low < 100 ? [1, 2, 5] : [1];
    let ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); ++p)
      for (const mark of marks) ticks.push(Number(`${mark}e${p}`));
    const below = ticks.filter((tick) => tick <= low).pop();
    const above = ticks.find((tick) => tick >= high);
    ticks = ticks.filter((tick) => tick >= below && tick <= above);
    const span = Math.log(above / below) || 1;
    return {ticks, at: (value) => from + (to - from) * Math.log(value / below) / span};
  };

  const scatter = (head, t, shares, errors, chosen) => {
    const width = 400, height = 300, left = 58, right = 382, top = 10, bottom = 232;
    const least = decades * Math.max(...errors);
    const drawn = errors.filter((error) => error > least);
    // What costs more than dense attention is never chosen.
    const shown = shares.map((_, i) => i).filter((i) => shares[i] <= 1);
    const x = logAxis(shown.map((i) => 100 * shares[i]), left, right);
    const y = drawn.length ? logAxis(drawn, bottom, top) : {ticks: [], at: () => bottom};
    const zero = bottom + 18;  // for errors that are less, or have no logarithm
    const place = (i) => [x.at(100 * shares[i]), errors[i] > least ? y.at(errors[i]) : zero];
    const hull = hullOf(shares, errors);
    const picture = svg('svg', {class: 'chart cloud', role: 'img', viewBox: `0 0 ${width} ${height}`});
    const title = `Candidates of ${label(head)} at ${data.lengths[t]} tokens`;
    picture.append(svg('title', {}, title));
    picture.append(svg('desc', {}, `${shares.length} candidates by cost and output error, ${hull.length} on the lower convex hull.` +
        (chosen === undefined ? ' The head was edited: none is chosen.' :
             ` Chosen: ${families[familyOf[chosen]].text}, cost ${percent(shares[chosen])}, error ${short(errors[chosen])}.`)));
    const tick = (value, x1, x2, y1, y2, tx, ty, anchor) => {
      picture.append(svg('line', {class: 'rule', x1, x2, y1, y2}));
      picture.append(svg('text', {class: 'tick ' + anchor, x: tx, y: ty}, value));
    };
    for (const value of x.ticks) {
      const at = x.at(value);
      tick(short(value), at, at, top, zero + 6, at, zero + 20, 'mid');
    }
    for (const value of y.ticks) {
      const at = y.at(value);
      tick(short(value), left, right, at, at, left - 6, at + 4, 'end');
    }
    if (drawn.length < errors.length) tick('less', left, right, zero, zero, left - 6, zero + 5, 'end');
    picture.append(svg('text', {class: 'axis mid', x: (left + right) / 2, y: height - 8}, 'cost, % of dense attention (log scale)'));
    picture.append(svg('text', {class: 'axis mid', transform: `translate(13,${(top + bottom) / 2}) rotate(-90)`}, 'output error (log scale)'));
    picture.append(svg('polyline', {class: 'hull', points: hull.map((i) => place(i).join()).join(' ')}));
    const draw = (i) => {
      const family = families[familyOf[i]];
      const mark = svg('path', {class: 'mark m' + family.pattern, d: family.shape, transform: `translate(${place(i)})`});
      mark.append(svg('title', {}, `${family.text}: cost ${percent(shares[i])}, error ${short(errors[i])}`));
      picture.append(mark);
    };
    shown.forEach(draw);
    if (chosen !== undefined)
      picture.append(svg('path', {class: 'here', transform: `translate(${place(chosen)})`,
        d: 'M-7,0a7,7 0 1,0 14,0a7,7 0 1,0 -14,0M-11,0h22M0,-11v22'}));
    const figure = html('figure');
    const caption = html('figcaption');
    caption.append(html('h3', `${data.lengths[t]} tokens`));
    figure.append(caption, picture);
    return figure;
  };

  // ---- one head

  const label = (head) => `layer ${Math.floor(head / data.columns)}, head ${head % data.columns}`;
  const rows = [
    ['recall, mean', (f) => f[0].toFixed(4)], ['recall, p05 of row blocks', (f) => f[1].toFixed(4)],
    ['recall, worst row block', (f) => f[2].toFixed(4)], ['recall, last rows', (f) => f[3].toFixed(4)],
    ['executed share', (f) => percent(f[4])], ['regret against the oracle', (f) => f[5].toFixed(4)],
    ['output error', (f) => short(f[6])],
  ];

  const figuresTable = (chosen, figures) => {
    const table = html('table');
    const head = table.createTHead().insertRow();
    head.append(html('td', ''));
    data.lengths.forEach((length) => head.append(html('th', `${length} tokens`, {scope: 'col'})));
    const body = table.createTBody();
    for (const [text, show] of rows) {
      const row = body.insertRow();
      row.append(html('th', text, {scope: 'row'}));
      figures.forEach((f) => row.append(html('td', show(f))));
    }
    const wide = html('div', undefined, {class: 'wide', role: 'region', 'aria-label': 'Figures of this head'});
    wide.append(table);
    return wide;
  };

  // Where the head's mass lies and what its pattern takes of it: a byte a cell of the lower triangle.
  const planes = [
    ['attention mass', 'log scale: all of a row’s mass, and 1/4096 of it'],
    ['keys taken', 'linear: all, and none'],
    ['mass left out', 'on the scale of the first'],
  ];
  const pictureOf = (head, plane, encoded, cells) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const [title, scale] = planes[plane];
    const canvas = html('canvas', undefined, {class: 'mass', width: cells, height: cells, role: 'img',
      'aria-label': `${label(head)}: ${title}; queries downwards, keys to the right`});
    const context = canvas.getContext('2d');
    const image = context.createImageData(cells, cells);
    let at = 0;
    for (let row = 0; row < cells; ++row) {
      for (let column = 0; column <= row; ++column, ++at) {
        // From white over orange to dark brown: lightness falls evenly.
        const ink = bytes[at] / 255;
        const pixel = 4 * (row * cells + column);
        image.data[pixel] = 255 - 160 * ink * ink;
        image.data[pixel + 1] = 250 - 220 * ink;
        image.data[pixel + 2] = 240 - 240 * Math.min(1, 1.6 * ink);
        image.data[pixel + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    const figure = html('figure');
    const caption = html('figcaption');
    caption.append(html('h3', title[0].toUpperCase() + title.slice(1)), html('p', 'Dark to light, ' + scale + '.'));
    figure.append(caption, canvas);
    return figure;
  };
  // Recall of every row of cells: all but what the third plane leaves out.
  const byPosition = (head, encoded, cells, tokens) => {
    const bytes = Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0));
    const recall = [];
    for (let row = 0, at = 0; row < cells; ++row) {
      let lost = 0;
      for (let column = 0; column <= row; ++column, ++at) lost += bytes[at] ? 2 ** (12 * (bytes[at] / 255 - 1)) : 0;
      recall.push(Math.max(0, 1 - lost));
    }
    const width = 400, height = 170, left = 46, right = 378, top = 10, bottom = 120;
    const least = Math.floor(10 * Math.min(...recall)) / 10;
    const x = (row) => left + (right - left) * (row + 0.5) / cells;
    const y = (value) => bottom - (bottom - top) * (value - least) / (1 - least || 1);
    const worst = recall.indexOf(Math.min(...recall));
    const token = (row) => Math.round(row * tokens / cells);
    const picture = svg('svg', {class: 'chart', role: 'img', viewBox: `0 0 ${width} ${height}`});
    picture.append(svg('title', {}, `Recall by position of ${label(head)}`));
    picture.append(svg('desc', {}, `Least at tokens ${token(worst)} to ${token(worst + 1)}: ${recall[worst].toFixed(2)}.`));
    for (const value of [least, (1 + least) / 2, 1]) {
      picture.append(svg('line', {class: 'rule', x1: left, x2: right, y1: y(value), y2: y(value)}));
      picture.append(svg('text', {class: 'tick end', x: left - 6, y: y(value) + 4}, value.toFixed(2)));
    }
    for (const part of [0, 0.5, 1])
      picture.append(svg('text', {class: 'tick mid', x: left + part * (right - left), y: bottom + 18}, Math.round(part * tokens)));
    picture.append(svg('text', {class: 'axis mid', x: (left + right) / 2, y: height - 8}, 'position of the query, tokens'));
    picture.append(svg('polyline', {class: 'line m2', points: recall.map((value, row) => [x(row), y(value)].join()).join(' ')}));
    const figure = html('figure');
    const caption = html('figcaption');
    caption.append(html('h3', 'Recall by position'));
    figure.append(caption, picture);
    return figure;
  };
  const picturesOf = (head) => {
    if (!data.pictures) return [];
    const [source, tokens, cells, heads] = data.pictures;
    const drawn = heads[head];
    if (!drawn) return [html('p', 'Pictures are in this file of the worst 64 heads, and of heads named by --heads.')];
    const row = html('div', undefined, {class: 'masses'});
    drawn.forEach((encoded, plane) => row.append(pictureOf(head, plane, encoded, cells)));
    const where = `${source}, ${tokens} tokens: queries downwards, keys to the right.`;
    const after = drawn.length > 1 ? [byPosition(head, drawn[2], cells, tokens)] : [];
    return [row, ...after, html('p', drawn.length > 1 ? where
      : where + ' What the pattern takes was drawn for other parameters, those of the search’s own config.')];
  };

  const legend = () => {
    const list = html('ul', undefined, {class: 'legend'});
    for (const family of families) {
      const item = html('li');
      const key = svg('svg', {class: 'mark-key', 'aria-hidden': 'true', viewBox: '-6 -6 12 12'});
      key.append(svg('path', {class: 'mark m' + family.pattern, d: family.shape}));
      item.append(key, ' ' + family.text);
      list.append(item);
    }
    return list;
  };

  const show = (head) => {
    const [pattern, recall, share, parameters, chosen, figures] = data.heads[head];
    const body = document.getElementById('detail-body');
    const text = label(head);
    name.textContent = text[0].toUpperCase() + text.slice(1);
    document.getElementById('detail-pattern').textContent =
        `${data.patterns[pattern]}${parameters ? ': ' + parameters : ''}. Recall ${recall.toFixed(4)}, cost ${percent(share)}.` +
        (chosen.length ? '' : ' Edited: not among the candidates, so its scores are not known.');
    body.replaceChildren();
    if (figures.length) {
      body.append(figuresTable(chosen, figures));
      body.append(html('p', 'p05 and the worst row block are of the worst sample, all else is the mean over samples. ' +
          'The oracle selects by the true attention mass at the same cost.'));
    }
    body.append(...picturesOf(head));
    const cloud = data.clouds[head];
    if (cloud) {
      const pair = html('div', undefined, {class: 'pair'});
      cloud.forEach(([shares, errors], t) => pair.append(scatter(head, t, shares, errors, chosen[t])));
      body.append(pair, legend());
      body.append(html('p', 'Every candidate that costs no more than dense attention, by its mean cost and output error. Dashed: the lower convex hull, those that are best at some price of work. Ring with a cross: the chosen one.'));
    } else {
      body.append(html('p', 'The candidates of this head are not in this file: only those of the worst 64 heads, and of heads named by --heads.'));
    }
    cells.forEach((map, m) => putRing(rings[m].chosen, map[head], 0));
  };

  const open = (head, focus) => {
    show(head);
    setStops();
    history.replaceState(null, '', `#L${Math.floor(head / data.columns)}.H${head % data.columns}`);
    document.getElementById('detail').scrollIntoView({block: focus ? 'start' : 'nearest'});
    if (focus) name.focus({preventScroll: true});
  };

  // ---- heatmaps

  const cells = maps.map((map) => [...map.querySelectorAll('rect')]);
  const place = new Map();  // rectangle -> [map, head]
  const showTip = (cell) => {
    tip.textContent = cell.getAttribute('aria-label');
    tip.hidden = false;
    const box = cell.getBoundingClientRect();
    const x = Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 4));
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = x + 'px';
    tip.style.top = (above > 4 ? above : box.bottom + 6) + 'px';
  };
  const hideTip = () => { tip.hidden = true; };

  // Outlines lie over all cells: one of a cell's own would be half covered by the next.
  const putRing = (ring, cell, margin) => {
    const box = {x: cell.x, y: cell.y, width: cell.width, height: cell.height};
    for (const [key, length] of Object.entries(box))
      ring.setAttribute(key, length.baseVal.value + (key.length > 1 ? 2 : -1) * margin);
    ring.setAttribute('transform', cell.parentNode.getAttribute('transform'));
  };
  const rings = maps.map((map) => {
    const made = {};
    for (const name of ['chosen', 'focused']) {
      made[name] = svg('rect', {class: 'ring ' + name, 'aria-hidden': 'true'});
      map.append(made[name]);
    }
    return made;
  });

  maps.forEach((map, m) => {
    map.setAttribute('role', 'grid');
    for (const row of map.querySelectorAll('g.row')) row.setAttribute('role', 'row');
    cells[m].forEach((cell, head) => {
      place.set(cell, [m, head]);
      cell.setAttribute('role', 'gridcell');
      cell.setAttribute('aria-label', cell.firstChild.textContent);
      cell.setAttribute('tabindex', head === 0 ? '0' : '-1');
      cell.firstChild.remove();  // the browser's own tooltip would lie over ours
    });
    const move = (from, to) => {
      from.setAttribute('tabindex', '-1');
      to.setAttribute('tabindex', '0');
      to.focus();
    };
    const cellOf = (event) => place.has(event.target) ? event.target : null;
    map.addEventListener('mouseover', (event) => cellOf(event) ? showTip(event.target) : hideTip());
    map.addEventListener('mouseleave', hideTip);
    // Of its parent: Chromium puts an SVG that listens for focus into the tab order.
    map.parentNode.addEventListener('focusin', (event) => {
      if (!cellOf(event)) return;
      showTip(event.target);
      putRing(rings[m].focused, event.target, 2);
    });
    map.parentNode.addEventListener('focusout', () => {
      hideTip();
      rings[m].focused.setAttribute('width', 0);
    });
    map.addEventListener('click', (event) => {
      if (!cellOf(event)) return;
      lastCell = event.target;
      open(place.get(event.target)[1], false);
    });
    map.addEventListener('keydown', (event) => {
      if (!cellOf(event)) return;
      const head = place.get(event.target)[1];
      const column = head % data.columns, start = head - column;
      const steps = {
        ArrowRight: column + 1 < data.columns ? head + 1 : head, ArrowLeft: column > 0 ? head - 1 : head,
        ArrowDown: head + data.columns, ArrowUp: head - data.columns,
        Home: event.ctrlKey ? 0 : start, End: event.ctrlKey ? data.heads.length - 1 : start + data.columns - 1,
      };
      if (event.key === 'Enter' || event.key === ' ') {
        lastCell = event.target;
        open(head, true);
      } else if (event.key in steps) {
        const to = cells[m][steps[event.key]];
        if (to && to !== event.target) move(event.target, to);
      } else {
        return;
      }
      event.preventDefault();
    });
  });

  // ---- links, keys and paper

  // What scrolls sideways must be reachable by Tab, and only that; heatmaps have their cells.
  const setStops = () => {
    for (const wide of document.querySelectorAll('.wide')) {
      if (wide.scrollWidth > wide.clientWidth && !wide.querySelector('svg.heat')) wide.tabIndex = 0;
      else wide.removeAttribute('tabindex');
    }
  };
  addEventListener('resize', setStops);

  const fromHash = (hash) => {
    const match = /^#L(\d+)\.H(\d+)$/.exec(hash);
    const head = match ? Number(match[1]) * data.columns + Number(match[2]) : -1;
    return match && Number(match[2]) < data.columns && head < data.heads.length ? head : -1;
  };
  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[href^="#L"]');
    if (!link) return;
    event.preventDefault();
    lastCell = link;
    open(fromHash(link.getAttribute('href')), true);
  });
  document.getElementById('detail').addEventListener('keydown', (event) => {
    if (event.key === 'Escape' && lastCell) lastCell.focus();
  });
  addEventListener('hashchange', () => { if (fromHash(location.hash) >= 0) open(fromHash(location.hash), true); });
  addEventListener('beforeprint', () => {
    for (const details of document.querySelectorAll('details')) details.open = true;
  });
  for (const hint of document.querySelectorAll('.live, #detail-hint')) hint.hidden = false;
  const asked = fromHash(location.hash);
  if (asked >= 0) {
    open(asked, false);
  } else {  // the worst head: something to look at, and to print
    show(data.heads.reduce((worst, head, i) => head[1] < data.heads[worst][1] ? i : worst, 0));
  }
  setStops();
})();
