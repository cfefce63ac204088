"""Layers, activations and losses, written with array functions alone."""

from thalweg.frontend.array import log_softmax, logsumexp, one_hot, sigmoid, softmax, tanh
from thalweg.frontend.nn.activations import (
    elu,
    gelu,
    hard_sigmoid,
    leaky_relu,
    log_sigmoid,
    mish,
    relu,
    relu6,
    selu,
    silu,
    softplus,
    softsign,
)
from thalweg.frontend.nn.attention import MultiHeadAttention, attention
from thalweg.frontend.nn.convolution import Conv, avg_pool, conv, conv_transpose, max_pool
from thalweg.frontend.nn.dense import Dense, Embedding
from thalweg.frontend.nn.dropout import Dropout, dropout
from thalweg.frontend.nn.losses import hinge, huber, l2, mse, sigmoid_cross_entropy, softmax_cross_entropy
from thalweg.frontend.nn.module import Module, Sequential
from thalweg.frontend.nn.normalization import BatchNorm, LayerNorm, batch_norm, layer_norm
from thalweg.frontend.nn.recurrent import GRU, LSTM, Recurrent
from thalweg.frontend.nn.sampling import log_uniform, log_uniform_probability, nce, sampled_softmax
from thalweg.frontend.nn.sharded import ShardedEmbedding, ShardedSoftmax

__all__ = [
    "GRU", "LSTM", "BatchNorm", "Conv", "Dense", "Dropout", "Embedding", "LayerNorm", "Module", "MultiHeadAttention",
    "Recurrent", "Sequential", "ShardedEmbedding", "ShardedSoftmax", "attention", "avg_pool", "batch_norm", "conv",
    "conv_transpose",
    "dropout", "elu", "gelu", "hard_sigmoid", "hinge", "huber", "l2", "layer_norm", "leaky_relu", "log_sigmoid",
    "log_softmax", "log_uniform",
    "log_uniform_probability", "logsumexp", "max_pool", "mish", "mse", "nce", "one_hot", "relu", "relu6",
    "sampled_softmax", "selu", "sigmoid", "sigmoid_cross_entropy", "silu", "softmax", "softmax_cross_entropy",
    "softplus", "softsign", "tanh",
]
