import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist/**', '.tap/**', 'coverage/**', 'src/protocol/generated/**'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { project: './tsconfig.check.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      eqeqeq: 'error',
      'no-console': 'error',
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        {
          allowNumber: true,
          allowBoolean: false,
          allowNever: false,
          allow: [{ name: 'bigint', from: 'lib' }],
        },
      ],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': 'error',
    },
  },
  {
    files: ['src/**'],
    rules: {
      'max-lines': ['error', { max: 300 }],
      'max-lines-per-function': ['error', { max: 80 }],
    },
  },
  {
    // Tables of routes and commands.
    files: ['src/link/doors/rest/*-routes.ts', 'src/cli/nodes/command.ts'],
    rules: { 'max-lines-per-function': 'off' },
  },
  {
    // Scripts and the command speak to people.
    files: ['scripts/**', 'test/**', 'bench/**', 'examples/**', '**/*.js'],
    rules: { 'no-console': 'off' },
  },
  { files: ['**/*.js'], ...tseslint.configs.disableTypeChecked },
);
