"""The outside world's stand-ins: customers who order, and whoever recounts. The product never imports this package."""
