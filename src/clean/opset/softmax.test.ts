import { type OpsetCase, oneNode, testRaising } from "../../../test/opset-cases.js";

testRaising(
  ["Softmax", "LogSoftmax", "Hardmax"].flatMap((opType): readonly OpsetCase[] => [
    { ...oneNode(`${opType} over all axes from 1 on`, 11, opType), nodeCount: 4 },
    { ...oneNode(`${opType} over everything`, 7, opType, { axis: 0 }), nodeCount: 4 },
    { ...oneNode(`${opType} from the last but one axis on`, 11, opType, { axis: -2 }), nodeCount: 4 },
    oneNode(`${opType} along the last axis`, 11, opType, { axis: -1 }),
    oneNode(`${opType} along the last axis, counted from the front`, 7, opType, { axis: 2 }),
    { ...oneNode(`${opType} of unknown rank`, 11, opType, { axis: 2 }), shapes: { x: undefined }, nodeCount: 4 },
  ]),
);
