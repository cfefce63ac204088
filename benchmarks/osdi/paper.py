"""What the papers measured. Read off the figures' vector paths where the text gives no number, to a few percent.

Their machines were a shared production cluster with a network between tasks; ours are processes of one machine. Shapes
are comparable (what grows with what), milliseconds are not.
"""

from __future__ import annotations

# Figure 7: null training step, synchronous, 16 parameter tasks; milliseconds by number of workers.
NULL_STEP = {
    "scalar": {1: 1.8, 10: 3.0, 25: 4.3, 50: 6.3, 100: 8.8},
    "dense 100 MB": {1: 147, 10: 120, 25: 317, 50: 382, 100: 613},
    "dense 1 GB": {1: 1010, 10: 1440, 25: 1950, 50: 3030, 100: 7160},
    "sparse 1 GB": {1: 6.8, 10: 7.1, 25: 11.3, 50: 22.5, 100: 29.5},
    "sparse 16 GB": {1: 5.2, 10: 7.7, 25: 16.0, 50: 18.6, 100: 26.6},
}

# Figure 8b: Inception-v3, images a second by number of workers.
TRAINING = {
    "asynchronous": {25: 434, 50: 875, 100: 1621, 200: 2313},
    "synchronous": {25: 400, 50: 782, 100: 1454, 200: 2109},
}

# Figure 8c: 50 workers, by number of backup workers: median step in seconds, and the normalised speed-up
# t(0)/t(b) * 50/(50+b), which is what the figure shows (its caption has the first factor upside down).
BACKUP_STEP = {0: 2.264, 1: 2.105, 2: 2.069, 3: 1.951, 4: 1.936, 5: 1.967}
BACKUP_SPEEDUP = {0: 1.000, 1: 1.055, 2: 1.052, 3: 1.095, 4: 1.083, 5: 1.047}

# Figure 9: LSTM-512-512 language model, vocabulary 40,000: words a second by number of parameter tasks.
LANGUAGE_MODEL = {
    "full, 4 workers": {1: 110, 2: 650, 4: 970, 8: 1150, 16: 1180, 32: 1260},
    "sampled, 4 workers": {1: 130, 2: 1200, 4: 1730, 8: 1990, 16: 2230, 32: 2440},
}

SUBGRAPHS_PER_SECOND = 10_000  # what the paper's executor runs (section 5)

# "Dynamic control flow in large-scale machine learning" (EuroSys 2018), from memory of its figures: a while loop with a
# trivial body, iterations a second by number of machines; and what overlapping iterations gives on 8 GPUs.
LOOP = {"no coordination": {1: 20_000, 64: 2_014}, "barrier": {64: 809}}
LOOP_PIPELINE_SPEEDUP = {"8 devices": {1: 1.0, 32: 5.0}}
