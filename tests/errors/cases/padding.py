import thalweg as tw

tw.nn.conv(tw.ones((1, 8, 8, 3)), tw.ones((3, 3, 3, 8)), padding="SAMME")

# -> ValueError: padding.py:3: padding must be 'same', 'valid' or one pair (before, after) for each of 2 spatial
#    dimensions, got 'SAMME'.
