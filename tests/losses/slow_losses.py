"""Every loss again, slow and obvious: by its paper's equation, one anchor, one pair or one triplet at a time.

Each takes embeddings (N, dim) and labels, a list of ints, and returns a scalar. The numbers are those of the papers and of
Deep_Metric; they are repeated here on purpose.
"""

import torch
from torch import exp, log


def split(x, labels, i):
    """Return the similarities of anchor i with its positives and with its negatives, as two lists."""
    n = len(x)
    return (
        [x[i] @ x[j] for j in range(n) if j != i and labels[j] == labels[i]],
        [x[i] @ x[j] for j in range(n) if labels[j] != labels[i]],
    )


def mean(terms):
    return sum(terms) / len(terms) if terms else 0.0


def weight(x, labels, alpha=40, beta=2, base=0.5, margin=0.1):
    """Wang et al. 2019, eqs. 11 to 13."""
    total = 0 * x.sum()
    for i in range(len(x)):
        positives, negatives = split(x, labels, i)
        if not positives or not negatives:
            continue
        kept_negatives = [s for s in negatives if s + margin > min(positives)]
        kept_positives = [s for s in positives if s - margin < max(negatives)]
        if kept_positives:
            total = total + log(1 + sum(exp(-beta * (s - base)) for s in kept_positives)) / beta
        if kept_negatives:
            total = total + log(1 + sum(exp(alpha * (s - base)) for s in kept_negatives)) / alpha
    return total / len(x)


def binomial(x, labels):
    """Yi et al. 2014, with the numbers of Deep_Metric."""
    total = 0 * x.sum()
    for i in range(len(x)):
        positives, negatives = split(x, labels, i)
        total = total + mean([log(1 + exp(-2 * (s - 0.5))) for s in positives])
        total = total + mean([log(1 + exp(40 * (s - 0.5))) for s in negatives])
    return total / len(x)


def contrastive(x, labels):
    """Hadsell et al. 2006, on similarities."""
    total = 0 * x.sum()
    for i in range(len(x)):
        positives, negatives = split(x, labels, i)
        total = total + sum(1 - s for s in positives) + sum(s - 0.5 for s in negatives if s > 0.5)
    return total / len(x)


def hard_mining(x, labels):
    """Deep_Metric, losses/HardMining.py."""
    total = 0 * x.sum()
    for i in range(len(x)):
        positives, negatives = split(x, labels, i)
        if positives and negatives:
            total = total + mean([1 - s for s in positives if s < max(negatives) + 0.1])
            total = total + mean([s for s in negatives if s > min(positives) - 0.1])
    return total / len(x)


def lifted_structure(x, labels):
    """Deep_Metric, losses/LiftedStructure.py."""
    total = 0 * x.sum()
    for i in range(len(x)):
        positives, negatives = split(x, labels, i)
        if positives and negatives:
            total = total + 2 / 2 * log(sum(exp(-2 * s) for s in positives))
            total = total + 2 / 40 * log(sum(exp(40 * s) for s in negatives))
    return total / len(x)


def nca(x, labels):
    """Goldberger et al. 2004: the probability that a softmax over similarities picks a positive."""
    total = 0 * x.sum()
    for i in range(len(x)):
        positives, negatives = split(x, labels, i)
        if positives:
            total = total - log(sum(exp(16 * s) for s in positives) / sum(exp(16 * s) for s in positives + negatives))
    return total / len(x)


def triplets_of(labels):
    n = range(len(labels))
    return [(a, p, q) for a in n for p in n for q in n if a != p and labels[a] == labels[p] != labels[q]]


def triplet(x, labels, semi_hard=False):
    """Schroff et al. 2015, eq. 3, over the violating triplets. semi_hard: only over those that also fulfil eq. 4."""
    violations = []
    for a, p, q in triplets_of(labels):
        positive, negative = ((x[a] - x[p]) ** 2).sum(), ((x[a] - x[q]) ** 2).sum()
        if positive + 0.2 > negative and not (semi_hard and negative <= positive):
            violations.append(positive - negative + 0.2)
    return mean(violations) + 0 * x.sum()


def semi_hard(x, labels):
    return triplet(x, labels, semi_hard=True)


def margin_terms(x, labels, beta, triplets):
    """Wu et al. 2017: for each pair in the triplets (a, p, n), return how far it is on the wrong side. beta:
    (num_classes,)."""
    terms = []
    for a, p, q in triplets:
        terms += [(x[a] - x[p]).norm() - beta[labels[a]] + 0.2, beta[labels[a]] - (x[a] - x[q]).norm() + 0.2]
    return terms


def margin(x, labels, beta, triplets):
    return mean([term for term in margin_terms(x, labels, beta, triplets) if term > 0]) + 0 * (x.sum() + beta.sum())


def sampling_weights(x, labels, a):
    """Wu et al. 2017, section 4: the weights, summing to 1, by which images are drawn as negatives of anchor a; None
    without any."""
    n, weights = x.shape[1], []
    for j in range(len(x)):
        d = max((x[a] - x[j]).norm().item(), 0.5)
        density = d ** (n - 2) * (1 - d**2 / 4) ** ((n - 3) / 2)
        weights.append(1 / density if labels[j] != labels[a] and d < 1.4 else 0.0)
    return [w / sum(weights) for w in weights] if sum(weights) else None


def proxy_anchor(x, labels, proxies):
    """Kim et al. 2020, eq. 4; proxies (num_classes, dim)."""
    proxies = proxies / proxies.norm(dim=1, keepdim=True)
    pull, push, present = 0.0, 0.0, set(labels)
    for c, proxy in enumerate(proxies):
        positives = [x[i] @ proxy for i in range(len(x)) if labels[i] == c]
        negatives = [x[i] @ proxy for i in range(len(x)) if labels[i] != c]
        if positives:
            pull = pull + log(1 + sum(exp(-32 * (s - 0.1)) for s in positives))
        if negatives:
            push = push + log(1 + sum(exp(32 * (s + 0.1)) for s in negatives))
    return pull / len(present) + push / len(proxies)


def thresholds_are_clear(x, labels, gap=1e-4):
    """Return True if no triplet is so close to a limit of the mining that rounding decides about it."""
    distances = 2 - 2 * x @ x.T
    violations = [(distances[a, p] - distances[a, q]).item() for a, p, q in triplets_of(labels)]
    return all(abs(abs(violation) - limit) > gap for violation in violations for limit in (0, 0.2))


PLAIN = {  # losses without parameters; Margin and ProxyAnchor have some
    "Weight": weight,
    "Binomial": binomial,
    "Contrastive": contrastive,
    "HardMining": hard_mining,
    "LiftedStructure": lifted_structure,
    "NCA": nca,
    "Triplet": triplet,
    "SemiHard": semi_hard,
}


def value_and_gradients(loss, *leaves):
    """Return the value of loss(*leaves), and its gradient for each leaf. leaves: tensors."""
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    value = loss(*leaves)
    value.backward()
    return [value.detach().to(torch.float64), *(leaf.grad.to(torch.float64) for leaf in leaves)]
