/**
 * How many cells a character takes: as the C library and the terminals of today count, so that the screen here is the one
 * that programs think of. Wide are those of Unicode's EastAsianWidth.txt (W and F) and emoji that are pictures by themselves;
 * marks that join take none. Pure.
 */

/** First and last of each run of wide characters, in order. */
const wide: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x231a, 0x231b],
  [0x2329, 0x232a],
  [0x23e9, 0x23ec],
  [0x23f0, 0x23f0],
  [0x23f3, 0x23f3],
  [0x25fd, 0x25fe],
  [0x2614, 0x2615],
  [0x2648, 0x2653],
  [0x267f, 0x267f],
  [0x2693, 0x2693],
  [0x26a1, 0x26a1],
  [0x26aa, 0x26ab],
  [0x26bd, 0x26be],
  [0x26c4, 0x26c5],
  [0x26ce, 0x26ce],
  [0x26d4, 0x26d4],
  [0x26ea, 0x26ea],
  [0x26f2, 0x26f3],
  [0x26f5, 0x26f5],
  [0x26fa, 0x26fa],
  [0x26fd, 0x26fd],
  [0x2705, 0x2705],
  [0x270a, 0x270b],
  [0x2728, 0x2728],
  [0x274c, 0x274c],
  [0x274e, 0x274e],
  [0x2753, 0x2755],
  [0x2757, 0x2757],
  [0x2795, 0x2797],
  [0x27b0, 0x27b0],
  [0x27bf, 0x27bf],
  [0x2b1b, 0x2b1c],
  [0x2b50, 0x2b50],
  [0x2b55, 0x2b55],
  [0x2e80, 0x2fd5],
  [0x2ff0, 0x303e],
  [0x3041, 0x3247],
  [0x3250, 0x4dbf],
  [0x4e00, 0xa4c6],
  [0xa960, 0xa97c],
  [0xac00, 0xd7a3],
  [0xf900, 0xfad9],
  [0xfe10, 0xfe19],
  [0xfe30, 0xfe6b],
  [0xff01, 0xff60],
  [0xffe0, 0xffe6],
  [0x16fe0, 0x18cd5],
  [0x18d00, 0x18d08],
  [0x1aff0, 0x1b122],
  [0x1b150, 0x1b2fb],
  [0x1f004, 0x1f004],
  [0x1f0cf, 0x1f0cf],
  [0x1f18e, 0x1f18e],
  [0x1f191, 0x1f19a],
  [0x1f200, 0x1f265],
  [0x1f300, 0x1f320],
  [0x1f32d, 0x1f335],
  [0x1f337, 0x1f37c],
  [0x1f37e, 0x1f393],
  [0x1f3a0, 0x1f3ca],
  [0x1f3cf, 0x1f3d3],
  [0x1f3e0, 0x1f3f0],
  [0x1f3f4, 0x1f3f4],
  [0x1f3f8, 0x1f43e],
  [0x1f440, 0x1f440],
  [0x1f442, 0x1f4fc],
  [0x1f4ff, 0x1f53d],
  [0x1f54b, 0x1f54e],
  [0x1f550, 0x1f567],
  [0x1f57a, 0x1f57a],
  [0x1f595, 0x1f596],
  [0x1f5a4, 0x1f5a4],
  [0x1f5fb, 0x1f64f],
  [0x1f680, 0x1f6c5],
  [0x1f6cc, 0x1f6cc],
  [0x1f6d0, 0x1f6d2],
  [0x1f6d5, 0x1f6df],
  [0x1f6eb, 0x1f6ec],
  [0x1f6f4, 0x1f6fc],
  [0x1f7e0, 0x1f7f0],
  [0x1f90c, 0x1f93a],
  [0x1f93c, 0x1f945],
  [0x1f947, 0x1f9ff],
  [0x1fa70, 0x1faf6],
  [0x20000, 0x3fffd],
];
const picture = /^\p{Emoji_Presentation}$/u;
const joining = /^[\p{Mn}\p{Me}\p{Cf}]$/u;
const softHyphen = 0xad;
/** What was looked up: 0 not yet, else the width + 1. Beyond these two planes there is nothing that a table would help. */
const known = new Uint8Array(0x20000);

/** 0, 1 or 2. */
export function widthOf(codepoint: number): 0 | 1 | 2 {
  if (codepoint < 0x300) return codepoint === 0 ? 0 : 1;
  const before = known[codepoint];
  if (before !== undefined && before > 0) return (before - 1) as 0 | 1 | 2;
  const width = compute(codepoint);
  if (codepoint < known.length) known[codepoint] = width + 1;
  return width;
}

function compute(codepoint: number): 0 | 1 | 2 {
  const text = String.fromCodePoint(codepoint);
  if (codepoint !== softHyphen && joining.test(text)) return 0;
  // Middles and ends of Hangul syllables stand on the begin.
  if (codepoint >= 0x1160 && codepoint <= 0x11ff) return 0;
  return isWide(codepoint) || picture.test(text) ? 2 : 1;
}

function isWide(codepoint: number): boolean {
  let low = 0;
  let high = wide.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [first, last] = wide[middle]!;
    if (codepoint < first) high = middle - 1;
    else if (codepoint > last) low = middle + 1;
    else return true;
  }
  return false;
}

/** Marks on one character that are kept: a heap of them must not grow without end. */
const maxMarks = 16;

/**
 * What xterm asks of a provider of widths, for a character behind another: bit 0 that it joins, bits 1 and 2 the width of
 * both, and above how many have joined.
 */
export function joinedWidth(codepoint: number, preceding: number): number {
  const width = widthOf(codepoint);
  const before = (preceding >> 1) & 3;
  const marks = preceding >> 3;
  if (width > 0 || before === 0 || marks >= maxMarks) return width << 1;
  return ((marks + 1) << 3) | (before << 1) | 1;
}
