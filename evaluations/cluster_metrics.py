"""Agreement of a clustering with the labels: functions of two labelings of the same N images, int64 (N,) each.

Names of labels and clusters do not matter. Each score is 1 when the two labelings are the same up to names.
"""

import numpy as np

# scikit-learn is imported where it is used: it takes a second, and `train.py --help` should not.


def nmi(labels: np.ndarray, clusters: np.ndarray, average: str = "arithmetic") -> float:
    """Normalised mutual information I(labels; clusters) / mean(H(labels), H(clusters)), in 0..1.

    average: the mean of the two entropies. This project quotes "arithmetic" (Manning, Raghavan and Schütze 2008,
    Introduction to Information Retrieval, section 16.3), scikit-learn's default since 0.22. Earlier versions of it and many
    older tables have "geometric" (Strehl and Ghosh 2002, JMLR 3), which is never lower.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, clusters, average_method=average))


def ami(labels: np.ndarray, clusters: np.ndarray) -> float:
    """Adjusted mutual information, (I - E[I]) / (mean(H(labels), H(clusters)) - E[I]), arithmetic mean.

    E[I] is the mean over random clusterings of equal sizes, so chance scores 0. The NMI of chance rises with the number of
    clusters (Vinh, Epps and Bailey 2010, JMLR 11; AMI_sum). Time grows with labels x clusters: 14 s for 11,316 of each.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(labels, clusters, average_method="arithmetic"))


def pairwise_f1(labels: np.ndarray, clusters: np.ndarray) -> float:
    """F1 = 2TP / (2TP + FP + FN) over pairs of images, in 0..1.

    A pair in one cluster is a true positive when its labels are the same, else a false positive. A pair with one label in
    two clusters is a false negative (Manning, Raghavan and Schütze 2008, section 16.3). F1 is 1 without a pair to find.
    """
    from sklearn.metrics.cluster import pair_confusion_matrix

    (_, false_positive), (false_negative, true_positive) = pair_confusion_matrix(labels, clusters).tolist()
    wrong = false_positive + false_negative
    return 2 * true_positive / (2 * true_positive + wrong) if true_positive or wrong else 1.0
