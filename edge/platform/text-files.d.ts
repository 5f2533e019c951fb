/** Scripts that the Worker carries as text: wrangler.toml's rule for `Text`, and the bundler of one machine. */
declare module '*.sh' {
  const text: string;
  export default text;
}
