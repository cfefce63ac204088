"""Logistic regression on a table: is a breast tumour malignant? (Wisconsin data, 30 measurements of 569 patients.)

Variables, a loss and an optimiser, without layers.

    python examples/logistic_regression.py
"""

import argparse

import numpy as np

import thalweg as tw


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=65)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--penalty", type=float, default=1e-3, help="weight of the L2 norm in the loss")
    args = parser.parse_args(argv)

    train, (test_rows, test_labels) = tw.data.breast_cancer()
    w = tw.Variable(np.zeros(30, np.float32), name="w")
    b = tw.Variable(np.float32(0), name="b")
    opt = tw.optim.AdaGrad(args.rate)

    @tw.function
    def step(rows, labels):
        def loss():
            errors = tw.nn.sigmoid_cross_entropy(rows @ w + b, labels)
            return tw.mean(errors) + args.penalty * tw.nn.l2(w)

        value, gradients = tw.value_and_grad(loss, wrt=[w, b])()
        opt.apply(zip(gradients, [w, b], strict=True))
        return value

    batches = tw.data.batches(
        train, args.batch, shuffle=True, epochs=args.epochs, drop_remainder=True, progress="logistic regression"
    )
    for rows, labels in batches:
        batches.report(loss=step(rows, labels))

    probability = np.asarray(tw.nn.sigmoid(test_rows @ w + b))
    accuracy = float(np.mean((probability > 0.5) == test_labels))
    print(f"accuracy on {len(test_labels)} held-out patients: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
