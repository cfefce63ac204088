"""What `make demo` runs: train a convolutional network on real images, then look at the program at every stage.

    python examples/demo.py
"""

import argparse
import re

import mnist_convnet
import numpy as np
from rich.console import Console
from rich.text import Text

# For each stage what it is, and where in its text the excerpt begins.
STAGES = {
    "tw": ("what was traced: your function, with the gradient as one operation", r"tw\.conv_general"),
    "tw-optimized": ("the gradient expanded, everything simplified", r"tw\.conv_general"),
    "stablehlo": ("the portable form; variables are arguments that change in place", r"stablehlo\.convolution"),
    "linalg": ("loops over indices, on whole tensors", r'linalg\.\w*conv|linalg\.generic.*"reduction"'),
    "kernels": ("the native functions that were formed, and their order", r"kernel"),
    "llvm": ("LLVM's intermediate representation", r"llvm\.fma|fmul|fadd"),
    "asm": ("machine code", r"vfmadd|fmla|mulps|fmul"),
}


def excerpt(text, pattern, lines):
    """Some lines of a program from a little before the pattern, without locations."""
    rows = [re.sub(r"\s*loc\(.*\)$", "", row) for row in text.splitlines()]
    rows = [row for row in rows if row.strip()]
    found = next((i for i, row in enumerate(rows) if re.search(pattern, row)), 0)
    return rows[max(found - 2, 0) :][:lines], len(rows)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lines", type=int, default=8, help="how much to show of each stage")
    args = parser.parse_args(argv)

    console = Console(highlight=False)
    console.print("A convolutional network learns handwritten digits, 4,000 images of MNIST, on this machine's CPU.\n")
    model, step, accuracy = mnist_convnet.train(args.epochs)
    console.print(f"\n{model}\naccuracy on 1,000 held-out images: [bold]{accuracy:.1%}[/]\n")

    console.print("The training step as the compiler saw it, stage by stage:")
    images, labels = np.zeros((32, 784), np.float32), np.zeros(32, np.int32)
    for stage, (meaning, pattern) in STAGES.items():
        rows, total = excerpt(step.ir(stage, images, labels), pattern, args.lines)
        console.print(f"\n[bold cyan]{stage}[/]  {meaning}  [dim]({total} lines)[/]")
        for row in rows:
            console.print(Text(row, style="dim"), no_wrap=True, overflow="ellipsis")
    console.print("\nMore: docs/tutorial, and `thalweg inspect --help`.")
    return accuracy


if __name__ == "__main__":
    main()
