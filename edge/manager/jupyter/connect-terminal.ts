/** The socket of a Jupyter client to one terminal, and what is behind it. */
import { stillAllowed } from '../../http/access.ts';
import type { UserCtx } from '../../http/context.ts';
import { systemTimers } from '../../platform/clock.ts';
import { machine } from '../../platform/draining.ts';
import { openTerminalStream } from '../terminals/service.ts';
import { countSocket, requireRoomForSocket } from './places.ts';
import { TerminalBridge } from './terminal-bridge.ts';
import { TerminalSocket, unprovenTerminalLimits } from './terminal-socket.ts';
import { requireTerminal } from './terminals.ts';
import { Unproven } from './unproven.ts';
import { hexOf } from './voice.ts';

/** Takes the socket, and answers for it until one of its ends is gone. @throws Refusal as `requireTerminal` */
export async function openJupyterTerminal(ctx: UserCtx, scope: string | undefined, name: string): Promise<Response> {
  const { source, terminal } = await requireTerminal(ctx, scope, name);
  const { clock, log, actor } = ctx;
  requireRoomForSocket(actor.userId);
  const { 0: theirs, 1: ours } = new WebSocketPair();
  ours.binaryType = 'arraybuffer';
  ours.accept();
  const unproven = new Unproven(unprovenTerminalLimits[ctx.config.layout], { clock, timers: systemTimers });
  const writer = hexOf(ctx.random.bytes(16));
  const bridge = new TerminalBridge(new TerminalSocket(ours, unproven), {
    timers: systemTimers,
    log,
    open: ({ window, sentBytes, after }) =>
      openTerminalStream(ctx, source.sessionId, {
        op: 'terminal',
        terminalId: terminal.id,
        input: { writer, from: sentBytes },
        ...(window === undefined ? {} : { window }),
        ...(after === undefined ? {} : { after }),
      }),
    stillAllowed: stillAllowed(ctx, source.projectId),
    isDraining: () => machine.isDraining,
  });
  countSocket(actor.userId, 1);
  ctx.waitUntil(bridge.run().finally(() => countSocket(actor.userId, -1)));
  return new Response(null, { status: 101, webSocket: theirs });
}
