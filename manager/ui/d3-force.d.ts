// Owns the few types of d3-force 3 that the layout uses; the package brings none.
declare module "d3-force" {
  export type Body = {
    id: string;
    x: number;
    y: number;
    vx?: number;
    vy?: number;
    fx?: number | null;
    fy?: number | null;
  };
  export interface Force {
    (alpha: number): void;
    strength(value: number | ((item: never) => number)): this;
    distance(value: number): this;
    distanceMax(value: number): this;
    theta(value: number): this;
    id(of: (body: Body) => string): this;
  }
  export interface Simulation {
    force(name: string, force: Force | null): this;
    stop(): this;
    tick(): this;
    alpha(): number;
    alpha(value: number): this;
    alphaDecay(value: number): this;
    alphaMin(): number;
    randomSource(source: () => number): this;
  }
  export function forceSimulation(bodies: Body[]): Simulation;
  export function forceManyBody(): Force;
  export function forceLink(links: { source: string; target: string }[]): Force;
  export function forceX(x: number): Force;
  export function forceY(y: number): Force;
  export function forceCollide(radius: number): Force;
}
