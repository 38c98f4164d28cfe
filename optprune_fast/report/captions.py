"""The words above and below the figures of a report."""

from __future__ import annotations

TITLES = {
    "accuracy": "What each method keeps, at each sparsity",
    "overfitting": "Does the mask only suit the samples of the search?",
    "convergence": "How the search went on",
    "histogram": "Which weights were kept",
    "densities": "How the kept weights are spread over the layers",
    "small": "How many of the kept weights are small",
    "swaps": "The small weights that pay most",
}

CAPTIONS = {
    "accuracy": "All methods of one sparsity keep exactly the same number of weights, of the same networks. Bars "
                "are standard deviations over seeds.",
    "overfitting": "Left: the loss of the chosen mask on the samples that the search saw (calibration), on those it "
                "was chosen by (validation) and, where they were given, on samples that decided nothing (test). "
                "Right: validation minus calibration loss, of logits as the search scaled them, each time that it "
                "found a better mask. A gap that grows while the search goes on is over-fitting: give more calibration "
                "samples.",
    "convergence": "A line a run. Thick: the lowest calibration loss so far; thin: the loss of that mask on the "
                "validation samples, of logits times what the search multiplied them with. The dot is the mask that "
                "was chosen, the lowest of the thin line.",
    "histogram": "Magnitude pruning keeps everything right of the dotted line. Orange, left of it: small weights "
                "that the search kept in the place of larger ones. Counts are logarithmic.",
    "densities": "Share of each layer's weights that is kept: by the mask that was found, and by magnitude pruning "
                "with one threshold for all layers.",
    "small": "Small: a kept weight that magnitude pruning at the same sparsity would drop.",
    "swaps": "Loss that comes back when one small weight is given up: exchanged for the largest weight that the "
                "mask drops, or dropped with nothing in its place. Each number is the exact loss of the mask after "
                "that move on the calibration samples, not an estimate; of more than 4096 small weights the most "
                "promising were tried. Rank 1 is the largest weight of the network.",
}
