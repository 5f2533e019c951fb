/** The thread that draws screens. It is given bytes and gives back text, and holds nothing that the agent could not make anew. */
import { parentPort } from 'node:worker_threads';
import type { ScreenAnswer, ScreenRequest } from './screen-messages.ts';
import { XtermScreen } from './xterm-screen.ts';

const screens = new Map<number, XtermScreen>();
/** What is asked of one screen is done in order. */
const turns = new Map<number, Promise<void>>();

async function act(request: ScreenRequest): Promise<Omit<ScreenAnswer, 'screen'>> {
  const { screen } = request;
  if (request.kind === 'open') {
    screens.set(screen, new XtermScreen(request.window, request.drawn));
    return {};
  }
  const open = screens.get(screen);
  if (open === undefined) throw new Error('the screen is not open');
  switch (request.kind) {
    case 'write':
      return { answers: await open.write(request.bytes) };
    case 'resize':
      await open.resize(request.window);
      return {};
    case 'draw':
      return { drawn: await open.draw() };
    case 'close':
      open.close();
      screens.delete(screen);
      turns.delete(screen);
      return {};
  }
}

async function answer(request: ScreenRequest): Promise<void> {
  const { screen } = request;
  try {
    parentPort?.postMessage({ screen, ...(await act(request)) } satisfies ScreenAnswer);
  } catch (error) {
    parentPort?.postMessage({ screen, error: String(error) } satisfies ScreenAnswer);
  }
}

parentPort?.on('message', (request: ScreenRequest) => {
  const before = turns.get(request.screen) ?? Promise.resolve();
  turns.set(
    request.screen,
    before.then(() => answer(request)),
  );
});
