// Owns the dashboard's start.
import { render } from "hono/jsx/dom";

render(<main>kattila.status</main>, document.getElementById("app")!);
