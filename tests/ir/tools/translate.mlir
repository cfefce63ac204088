// RUN: thalweg translate %s --to tw | filecheck %s --check-prefix=TW
// RUN: thalweg translate %s --to stablehlo | filecheck %s --check-prefix=STABLEHLO
// RUN: thalweg translate %s --to linalg | filecheck %s --check-prefix=LINALG
// RUN: thalweg translate %s --to linalg --mlir-print-debuginfo | filecheck %s --check-prefix=PLACE
// RUN: thalweg translate %s --to artefact | thalweg translate - --to stablehlo --compact | filecheck %s --check-prefix=BACK
// RUN: thalweg translate %s --to dot | filecheck %s --check-prefix=DOT
// RUN: thalweg translate %s --to json | filecheck %s --check-prefix=JSON

// TW: "tw.exp"
// STABLEHLO: stablehlo.exponential
// LINALG: linalg.generic
// PLACE: loc("model.py":3:0)
// BACK: stablehlo.exponential %arg0 : f32[3]
// DOT: digraph
// DOT: label="exp", tooltip="model.py:3"
// JSON: "label": "exp"
// JSON: "source"

func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32> loc("f"("model.py":3:0))
  return %0 : tensor<3xf32>
}
