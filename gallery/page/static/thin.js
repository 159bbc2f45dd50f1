// Chooses the points of the map with a thumbnail: as many as fit beside each other, and more at a closer zoom.

const GAP = 72; // pixels between thumbnails

/** The size of a thumbnail, relative to its size at a zoom of 1. */
export const grown = (level) => Math.min(2, 2 ** (level / 8));

/**
 * levels(x, y) returns { at }. at(level) lists the points that get a thumbnail at a zoom of 2 ** (level / 2), as indices
 * into x and y. Their thumbnails keep a distance that grows with their size, GAP pixels at a zoom of 1. A point with a
 * thumbnail at one level keeps it at the next levels, so nothing flickers on zooming in.
 * x, y: positions at a zoom of 1, in pixels.
 */
export function levels(x, y) {
  const done = [];

  function at(level) {
    if (done[level]) return done[level];
    const distance = (GAP * grown(level)) / 2 ** (level / 2);
    const cells = new Map(); // a cell of the grid -> the rows in it
    const cell = (i, dx = 0, dy = 0) => (Math.floor(x[i] / distance) + dx) * 2 ** 20 + Math.floor(y[i] / distance) + dy;
    const rows = [];
    const take = (i) => {
      rows.push(i);
      const key = cell(i);
      if (cells.has(key)) cells.get(key).push(i);
      else cells.set(key, [i]);
    };
    const free = (i) => {
      for (let dx = -1; dx <= 1; dx++) {
        for (let dy = -1; dy <= 1; dy++) {
          const close = (j) => Math.max(Math.abs(x[i] - x[j]), Math.abs(y[i] - y[j])) < distance;
          if (cells.get(cell(i, dx, dy))?.some(close)) return false;
        }
      }
      return true;
    };
    if (level > 0) at(level - 1).forEach(take);
    const before = new Set(rows);
    for (let i = 0; i < x.length; i++) if (!before.has(i) && free(i)) take(i);
    return (done[level] = rows);
  }
  return { at };
}
