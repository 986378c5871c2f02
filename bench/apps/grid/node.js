/** The node half of the bench: does nothing, at once. */
import { nodeApp } from 'rollcall/app';

export default nodeApp({ train: () => ({}) });
