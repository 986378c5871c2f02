/**
 * Loaded into a measured Node.js process by --import: collects garbage at SIGUSR2, so that the measured memory is
 * live memory, without uncollected garbage. Plain JavaScript: it must cost nothing.
 */
process.on('SIGUSR2', () => globalThis.gc?.());
