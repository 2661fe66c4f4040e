/** What a user may set of a step, once for recipes, flags and help. */
export type Option =
  | {
      readonly kind: "number";
      readonly help: string;
      readonly default: number | string;
      readonly least: number;
      readonly most: number;
      /** Whether there is nothing between whole numbers. */
      readonly isWhole?: boolean;
      /** Whether of whole numbers only every other one will do. */
      readonly isOdd?: boolean;
      /** Words that may stand for a number, as "auto". */
      readonly words?: readonly string[];
    }
  | {
      readonly kind: "choice";
      readonly help: string;
      readonly default: string;
      readonly choices: readonly [string, ...string[]];
    }
  | {
      readonly kind: "text";
      readonly help: string;
      readonly default: string;
      /** What it names, where it is not empty. */
      readonly names?: "output";
    }
  | { readonly kind: "switch"; readonly help: string; readonly default: boolean };

/** The options of a step by their names. */
export type OptionList = Readonly<Record<string, Option>>;

/** What is set of them. */
export type OptionValues = Readonly<Record<string, number | string | boolean>>;

/** Of options that exclude each other, the one that has to give way: what it must be, in words. */
export interface Contradiction {
  readonly option: string;
  /** As in "must be 1 where …". */
  readonly message: string;
}

/** The values of a list of options, every one of them given. */
export type OptionsOf<List extends OptionList> = { readonly [Name in keyof List]: ValueOf<List[Name]> };

type ValueOf<One extends Option> = One extends { readonly kind: "number" }
  ? One extends { readonly words: readonly (infer Word)[] }
    ? number | Word
    : number
  : One extends { readonly kind: "choice"; readonly choices: readonly (infer Choice)[] }
    ? Choice
    : One extends { readonly kind: "text" }
      ? string
      : boolean;

/** @param given what a recipe has checked; the rest is filled in */
export function fillOptions<List extends OptionList>(list: List, given: OptionValues): OptionsOf<List> {
  const entries = Object.entries(list).map(([name, option]) => [name, given[name] ?? option.default]);
  return Object.fromEntries(entries) as OptionsOf<List>;
}

/** What a value of an option looks like, in words: after "must be". */
export function describeOption(option: Option): string {
  switch (option.kind) {
    case "number": {
      const words = (option.words ?? []).map((word) => ` or ${JSON.stringify(word)}`).join("");
      const kind = option.isOdd ? "an odd" : option.isWhole ? "a whole" : "a";
      return `${kind} number from ${option.least} to ${option.most}${words}`;
    }
    case "choice":
      return option.choices.map((choice) => JSON.stringify(choice)).join(" or ");
    case "text":
      return "a text";
    case "switch":
      return "true or false";
  }
}
