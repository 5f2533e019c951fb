/**
 * A model of what draws terminals: its screen is the last that was written, as it is. What stands behind the last place where
 * the drawing may be cut is held back, as the real one does within a character or a sequence.
 */
import type { Screen, Screens } from '../../../agent-daemon/terminals/screens.ts';

const shownBytes = 400;
/** A cut may be at each of these, counted from the last place where whatever had begun was given up. */
const between = 3;
const cancel = '\x18';

export const plainScreens: Screens = {
  open(window, drawn): Screen {
    let size = window;
    let text = drawn?.text ?? '';
    let held = '';
    return {
      write: (bytes) => {
        const all = held + Buffer.from(bytes).toString('latin1');
        const clean = all.length - ((all.length - (all.lastIndexOf(cancel) + 1)) % between);
        text = (text + all.slice(0, clean)).slice(-shownBytes);
        held = all.slice(clean);
        return Promise.resolve('');
      },
      resize: (to) => {
        size = to;
        return Promise.resolve();
      },
      draw: () => Promise.resolve({ window: size, text, held: held.length }),
      close: () => undefined,
    };
  },
};
